"""One typed view of a network: what objectives match, computed only where asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from transformers import PreTrainedModel

from metakd.data.encoding import Batch, model_inputs
from metakd.models import attention
from metakd.models.domain_head import DomainHead
from metakd.models.first_token import first_token_only


@dataclass(frozen=True)
class Need:
    """What an objective asks of a network; layers are counted from 1, hidden layer 0 is the embedding layer."""

    hidden: frozenset[int] = frozenset()
    attention: frozenset[int] = frozenset()
    probabilities: frozenset[int] = frozenset()
    projected: frozenset[int] = frozenset()
    transferable: bool = False

    @property
    def inside_attention(self) -> bool:
        """Whether the network must be one that `metakd.models.attention.enable` was called for."""
        return bool(self.attention or self.probabilities or self.projected)


@dataclass
class Views:
    """What a network shows of a batch.

    Args:
        logits: [B, C]; None where nobody has asked for them.
        hidden: hidden states [B, L, D] by layer.
        attention: raw scores [B, H, L, L] by layer; see `metakd.models.attention.Capture`.
        probabilities: their softmax [B, H, L, L] by layer.
        projected: (query, key, value), each [B, H, L, D/H], by layer.
        transferable: the domain head's feature h [B, D].
    """

    logits: Tensor | None
    hidden: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)
    probabilities: dict[int, Tensor] = field(default_factory=dict)
    projected: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)
    transferable: Tensor | None = None


def view(model: PreTrainedModel, batch: Batch, need: Need, head: DomainHead | None = None) -> Views:
    """Run the network once.

    Args:
        head: the network's domain head; needed for the transferable feature.
    """
    states = bool(need.hidden) or need.transferable
    if need == Need():
        with first_token_only(model):
            return Views(model(**model_inputs(batch)).logits)
    with attention.capture(need.attention, need.probabilities, need.projected) as seen:
        output = model(**model_inputs(batch), output_hidden_states=states)
    feature = None
    if need.transferable:
        assert head is not None
        feature = head(output.hidden_states[-1], batch["content_mask"], batch["domain"])
    hidden = {layer: output.hidden_states[layer] for layer in need.hidden}
    return Views(output.logits, hidden, seen.scores, seen.probabilities, seen.projected, feature)
