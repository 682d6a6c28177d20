"""Raw attention scores beside fused attention, for any encoder that uses transformers' attention interface.

An attention function registered under its own name computes the layers whose scores or probabilities are asked for
in plain matrix products and leaves every other layer to the fused kernel; but on a CPU no fused kernel knows dropout,
so there it is the faster one for training too. Layers are counted from 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from metakd.errors import InputError
from metakd.models.dropout import drop

NAME = "metakd_scores"
SHORT = 64  # keys; the bf16 softmax of shorter rows is up to 5 times slower on a CPU than that in fp32, its gradient 8


@dataclass
class Capture:
    """What is kept of a forward pass, by layer.

    Args:
        of_scores, of_probabilities, of_projected: the wanted layers.
        scores: raw scores [B, H, L, L]; pairs that are not attended hold the dtype's lowest number.
        probabilities: softmax of the scores, before dropout [B, H, L, L].
        projected: (query, key, value), each [B, H, L, D/H].
        calls: layers passed so far.
    """

    of_scores: frozenset[int] = frozenset()
    of_probabilities: frozenset[int] = frozenset()
    of_projected: frozenset[int] = frozenset()
    scores: dict[int, Tensor] = field(default_factory=dict)
    probabilities: dict[int, Tensor] = field(default_factory=dict)
    projected: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)
    calls: int = 0


_active: ContextVar[Capture | None] = ContextVar("active", default=None)


def enable(model: PreTrainedModel) -> None:
    """Make the model's attention go through `attention_with_scores`.

    Raises:
        InputError: the model's family does not use the attention interface.
    """
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise InputError(
            f"{type(model).__name__} does not let its attention be read; use a method without attention terms"
        )


@contextmanager
def capture(
    of_scores: frozenset[int], of_probabilities: frozenset[int], of_projected: frozenset[int]
) -> Iterator[Capture]:
    """Collect what these layers compute during one forward pass of a model that was enabled."""
    found = Capture(of_scores, of_probabilities, of_projected)
    token = _active.set(found)
    try:
        yield found
    finally:
        _active.reset(token)


def attended(scores: Tensor) -> Tensor:
    """Which pairs of captured scores the model attends to (bool, same shape)."""
    return scores > torch.finfo(scores.dtype).min


def attention_with_scores(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,  # what the interface passes on to every attention function
) -> tuple[Tensor, Tensor | None]:
    """One layer's attention: softmax(scores) value, with scores = query key^T * scaling; what is wanted is kept.

    Shapes: query, key, value [B, H, L, D/H]; attention_mask [B, 1, L, L] bool (True = attended) or None.

    Raises:
        InputError: something is wanted of a layer whose attention is more than this.
    """
    active = _active.get() or Capture()
    active.calls += 1
    layer = active.calls
    if layer in active.of_projected:
        active.projected[layer] = (query, key, value)
    wanted = layer in active.of_scores | active.of_probabilities
    plain = is_plain(module, query, key, attention_mask, options)
    if wanted and not plain:
        raise InputError(
            f"{type(module).__name__} is causal, has grouped heads or adds a bias to its scores, and only scores of "
            "plain attention can be read; use a method without attention terms"
        )
    if not wanted and (dropout == 0 or query.device.type != "cpu" or not plain):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    scores = (query * (scaling if scaling is not None else query.shape[-1] ** -0.5)) @ key.transpose(2, 3)
    if attention_mask is not None:
        lowest = torch.full((), torch.finfo(scores.dtype).min, dtype=scores.dtype, device=scores.device)
        scores += torch.where(attention_mask, torch.zeros_like(lowest), lowest)
    if layer in active.of_scores:
        active.scores[layer] = scores
    probabilities = scores.softmax(-1, dtype=torch.float32 if key.shape[2] < SHORT else None).to(value.dtype)
    if layer in active.of_probabilities:
        active.probabilities[layer] = probabilities
    if dropout > 0:
        by = drop if query.device.type == "cpu" else nn.functional.dropout
        probabilities = by(probabilities, dropout)
    return (probabilities @ value).transpose(1, 2).contiguous(), None


def is_plain(module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, options: dict[str, Any]) -> bool:
    """Whether a layer attends as `attention_with_scores` computes it: not causal, no grouped heads, nothing added."""
    if mask is None:
        causal = options.get("is_causal")  # goes before the module's own
        masked_plainly = not (getattr(module, "is_causal", True) if causal is None else causal)
    else:
        masked_plainly = mask.dtype == torch.bool
    return masked_plainly and query.shape[1] == key.shape[1] and options.get("position_bias") is None


AttentionInterface.register(NAME, attention_with_scores)
AttentionMaskInterface.register(NAME, sdpa_mask)
