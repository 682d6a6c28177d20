"""The domain head: the transferable feature h, and a domain classifier that must fail on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metakd.models.pooling import masked_mean


class DomainHead(nn.Module):
    """h(x, k) = tanh(W (e_k + mean_tokens(x)) + b), and a domain classifier on h (Meta-KD, section 3.2).

    The mean runs over the last hidden states of content tokens: padding and [CLS] do not count.

    Args:
        width: of the hidden states.
        domains: number of domains K.
    """

    def __init__(self, width: int, domains: int) -> None:
        super().__init__()
        self.domain_embedding = nn.Embedding(domains, width)
        self.dense = nn.Linear(width, width)
        self.classifier = nn.Linear(width, domains)
        nn.init.normal_(self.domain_embedding.weight, std=0.02)

    def forward(self, states: Tensor, mask: Tensor, domain: Tensor) -> Tensor:
        """Last hidden states [B, L, D], content mask [B, L], domain numbers [B] -> h [B, D]."""
        mean = masked_mean(states, mask)
        return torch.tanh(self.dense(self.domain_embedding(domain) + mean))

    def domain_logits(self, feature: Tensor) -> Tensor:
        """h [B, D] -> [B, K]."""
        return self.classifier(feature)

    def for_domains(self, known: list[str], wanted: list[str]) -> DomainHead:
        """This head over other domains: e_k is matched by name, and a new domain gets the mean of all e_k.

        The domain classifier is fresh unless the domains are the same.
        """
        if known == wanted:
            return self
        head = DomainHead(self.dense.in_features, len(wanted))
        head.dense.load_state_dict(self.dense.state_dict())
        vectors = self.domain_embedding.weight.detach()
        rows = [vectors[known.index(name)] if name in known else vectors.mean(0) for name in wanted]
        head.domain_embedding.weight.data.copy_(torch.stack(rows))
        return head
