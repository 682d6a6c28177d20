"""Read attention scores, probabilities and projections while the rest of the network stays fused.

An attention function, registered with transformers, computes the layers that the current pass asks for in plain matrix
products, and leaves every other layer to the fused kernel. Layers are counted from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from metakd.errors import InputError
from metakd.models.classifier import encoder_layers

READING = "metakd_reading"
LAYER = "metakd_layer"  # attribute of a module inside a layer: the layer's number


@dataclass
class AttentionCapture:
    """What one forward pass keeps of its attention.

    Args:
        scores_of, probabilities_of, projections_of: layers to keep.
        scores: raw scores [B, H, L, L] by layer; masked pairs hold the dtype's lowest number.
        probabilities: softmax of the scores, before dropout [B, H, L, L], by layer.
        projections: (query, key, value), each [B, H, L, D/H], by layer.
    """

    scores_of: frozenset[int] = frozenset()
    probabilities_of: frozenset[int] = frozenset()
    projections_of: frozenset[int] = frozenset()
    scores: dict[int, Tensor] = field(default_factory=dict)
    probabilities: dict[int, Tensor] = field(default_factory=dict)
    projections: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    def computes(self, layer: int | None) -> bool:
        """Whether the layer's scores must be computed where they can be read."""
        return layer in self.scores_of or layer in self.probabilities_of


NOTHING = AttentionCapture()
_capture: ContextVar[AttentionCapture] = ContextVar("capture", default=NOTHING)


@contextmanager
def capturing(capture: AttentionCapture) -> Iterator[AttentionCapture]:
    """Collect attention during one forward pass of a model prepared by `enable_reading`."""
    token = _capture.set(capture)
    try:
        yield capture
    finally:
        _capture.reset(token)


def enable_reading(model: PreTrainedModel) -> None:
    """Let a model's attention be read.

    Raises:
        InputError: the model's family does not use transformers' attention interface.
    """
    use_attention(model, READING)


def use_attention(model: PreTrainedModel, name: str) -> None:
    """Make a model use a registered attention function, and tell each layer's modules which layer they belong to.

    Raises:
        InputError: the model's family does not use transformers' attention interface.
    """
    model.set_attn_implementation(name)
    if model.config._attn_implementation != name:
        raise InputError(
            f"{type(model).__name__} does not let its attention be read; use a method without attention terms"
        )
    for number, layer in enumerate(encoder_layers(model), 1):
        for module in layer.modules():
            setattr(module, LAYER, number)


def attended(scores: Tensor) -> Tensor:
    """Which pairs of captured scores the model attends to (bool, same shape)."""
    return scores > torch.finfo(scores.dtype).min


def reading_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,  # the interface passes more options to every attention function
) -> tuple[Tensor, Tensor | None]:
    """One layer's attention output [B, L, H, D/H]; keeps what the current pass asks for.

    Shapes: query, key, value [B, H, L, D/H]; attention_mask [B, 1, L, L] bool (True = attended) or None.
    """
    if current_capture(module, query, key, value).computes(getattr(module, LAYER, None)):
        return plain_attention(module, query, key, value, attention_mask, scaling, dropout, options), None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
    )


def current_capture(module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> AttentionCapture:
    """The capture of the current pass, after it has kept this layer's projections if it wants them."""
    capture = _capture.get()
    layer = getattr(module, LAYER, None)
    if layer in capture.projections_of:
        capture.projections[layer] = (query, key, value)
    return capture


def softmax(scores: Tensor) -> Tensor:
    return scores.softmax(-1)


def plain_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    dropout: float,
    options: dict[str, Any],
    normalise: Callable[[Tensor], Tensor] = softmax,
    drop: Callable[[Tensor, float], Tensor] = F.dropout,
) -> Tensor:
    """softmax(query key^T * scaling) value in matrix products [B, L, H, D/H]; keeps what the current pass wants.

    Args:
        normalise: the softmax over the last dimension.
        drop: dropout of the probabilities.

    Raises:
        InputError: the layer computes something else than plain attention.
    """
    if not is_plain(module, query, key, mask, options):
        raise InputError(
            f"{type(module).__name__} is causal, has grouped heads or adds a bias to its scores; only plain "
            "attention can be read. Use a method without attention terms"
        )
    capture, layer = _capture.get(), getattr(module, LAYER, None)
    scores = (query * (scaling if scaling is not None else query.shape[-1] ** -0.5)) @ key.transpose(2, 3)
    if mask is not None:
        lowest = torch.full((), torch.finfo(scores.dtype).min, dtype=scores.dtype, device=scores.device)
        scores += torch.where(mask, torch.zeros_like(lowest), lowest)
    probabilities = normalise(scores).to(value.dtype)
    if layer in capture.scores_of:
        capture.scores[layer] = scores
    if layer in capture.probabilities_of:
        capture.probabilities[layer] = probabilities
    if dropout > 0:
        probabilities = drop(probabilities, dropout)
    return (probabilities @ value).transpose(1, 2).contiguous()


def is_plain(module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, options: dict[str, Any]) -> bool:
    """Whether a layer's attention is not causal, has no grouped heads and adds nothing to its scores."""
    if mask is None:
        causal = options.get("is_causal")  # takes precedence over the module's own
        plain_mask = not (getattr(module, "is_causal", True) if causal is None else causal)
    else:
        plain_mask = mask.dtype == torch.bool
    return plain_mask and query.shape[1] == key.shape[1] and options.get("position_bias") is None


AttentionInterface.register(READING, reading_attention)
AttentionMaskInterface.register(READING, sdpa_mask)
