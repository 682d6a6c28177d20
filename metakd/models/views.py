"""One typed view of a network: a forward pass computes what was requested, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from torch import Tensor
from transformers import PreTrainedModel

from metakd.data.encoding import Batch, model_inputs
from metakd.models.attention import AttentionCapture, capturing
from metakd.models.domain_head import DomainHead


@dataclass(frozen=True)
class ViewRequest:
    """What to read from a forward pass beside the logits. Layers count from 1; hidden layer 0 is the embedding."""

    hidden: frozenset[int] = frozenset()
    scores: frozenset[int] = frozenset()
    probabilities: frozenset[int] = frozenset()
    projections: frozenset[int] = frozenset()
    transferable: bool = False

    @property
    def reads_attention(self) -> bool:
        """Whether the network must be prepared by `metakd.models.attention.enable_reading`."""
        return bool(self.scores or self.probabilities or self.projections)


LOGITS_ONLY = ViewRequest()
_request: ContextVar[ViewRequest | None] = ContextVar("request", default=None)


def current_request() -> ViewRequest | None:
    """The request of the forward pass that is running inside `compute_views`; None elsewhere."""
    return _request.get()


@dataclass
class Views:
    """What a forward pass shows of a batch.

    Args:
        logits: [B, C].
        hidden: hidden states [B, L, D] by layer.
        scores: raw attention scores [B, H, L, L] by layer; see `metakd.models.attention.AttentionCapture`.
        probabilities: attention probabilities [B, H, L, L] by layer.
        projections: (query, key, value), each [B, H, L, D/H], by layer.
        transferable: the domain head's feature h [B, D].
    """

    logits: Tensor
    hidden: dict[int, Tensor] = field(default_factory=dict)
    scores: dict[int, Tensor] = field(default_factory=dict)
    probabilities: dict[int, Tensor] = field(default_factory=dict)
    projections: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)
    transferable: Tensor | None = None


def compute_views(
    model: PreTrainedModel, batch: Batch, request: ViewRequest = LOGITS_ONLY, head: DomainHead | None = None
) -> Views:
    """Run a classifier once and return what the request names.

    Args:
        head: the classifier's domain head; needed for the transferable feature.
    """
    with_states = bool(request.hidden) or request.transferable
    capture = AttentionCapture(request.scores, request.probabilities, request.projections)
    with _requesting(request), capturing(capture):
        output = model(**model_inputs(batch), output_hidden_states=with_states)
    hidden = {layer: output.hidden_states[layer] for layer in request.hidden}
    views = Views(output.logits, hidden, capture.scores, capture.probabilities, capture.projections)
    if request.transferable:
        if head is None:
            raise ValueError("the transferable feature needs a domain head")
        views.transferable = head(output.hidden_states[-1], batch["content_mask"], batch["domain"])
    return views


@contextmanager
def _requesting(request: ViewRequest) -> Iterator[None]:
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)
