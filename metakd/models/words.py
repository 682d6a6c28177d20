"""Train only the word embeddings that the training rows use; most of a small model's weights are words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel


class UsedWords(nn.Module):
    """A word embedding of which the words of the training rows are trained; the others keep their values.

    The others get no gradient, so nothing that is trained would differ if they were there: the optimizer, the norm
    of the gradients and what processes exchange are spared them.

    Args:
        table: the whole embedding [V, D].
        used: ids of the words that occur in the training rows, padding included.
    """

    def __init__(self, table: nn.Embedding, used: Tensor) -> None:
        super().__init__()
        number = torch.full((table.num_embeddings,), -1, device=used.device)
        number[used] = torch.arange(len(used), device=used.device)
        # No buffers: they never change, so they belong into no checkpoint, and processes need not exchange them.
        self.table, self.number = table.weight.detach(), number
        self.weight = nn.Parameter(table.weight.detach()[used])
        padding = -1 if table.padding_idx is None else int(number[table.padding_idx])
        self.padding_idx = padding if padding >= 0 else None  # a model may know of another one than its tokenizer

    def forward(self, ids: Tensor) -> Tensor:
        """Ids [B, L] -> embeddings [B, L, D]; while training all ids must be used ones."""
        number = self.number[ids]
        if self.training:
            return F.embedding(number, self.weight, self.padding_idx)
        known = F.embedding(number.clamp(min=0), self.weight)
        return torch.where(number.unsqueeze(-1) >= 0, known, F.embedding(ids, self.table))


@contextmanager
def train_used_words(module: nn.Module, used: Tensor) -> Iterator[None]:
    """Replace the trained word embeddings of all models in a module; afterwards put them back with their new values.

    An embedding whose weights another layer shares, or that does more than look up, is left alone.

    Args:
        used: ids of the words that occur in the training rows, padding included, each once.
    """
    replaced: list[tuple[PreTrainedModel, nn.Embedding, UsedWords]] = []
    for model in (m for m in module.modules() if isinstance(m, PreTrainedModel)):
        words = model.get_input_embeddings()
        if type(words) is nn.Embedding and words.weight.requires_grad and not tied(module, words):
            part = UsedWords(words, used.to(words.weight.device))
            model.set_input_embeddings(part)
            replaced.append((model, words, part))
    try:
        yield
    finally:
        for model, words, part in replaced:
            with torch.no_grad():
                words.weight[used.to(words.weight.device)] = part.weight
            model.set_input_embeddings(words)


def tied(module: nn.Module, words: nn.Embedding) -> bool:
    """Whether another layer has the same weights."""
    return any(other is not words and getattr(other, "weight", None) is words.weight for other in module.modules())
