"""Compute the last layer for the first token alone where the classifier reads no other; saves most of a layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from metakd.cpu.attention import fast_attention
from metakd.models.classifier import encoder_layers
from metakd.models.views import LOGITS_ONLY, current_request

# Families whose classifiers read the first token, and whose layers have BERT's parts.
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")


def shorten_last_layer(model: PreTrainedModel) -> Callable[[], None]:
    """Let passes that request the logits alone compute the last layer for the first token; returns the undo function.

    The other tokens still give their keys and values, so the logits are the same. Other families are left alone.
    """
    if model.config.model_type not in FAMILIES:
        return lambda: None
    attention = encoder_layers(model)[-1].get_submodule("attention")
    if "forward" in vars(attention):  # shortened before, for a model that shares the encoder
        return lambda: None
    full_forward = attention.forward
    attention.forward = partial(first_token_attention, attention, full_forward)

    def undo() -> None:
        del attention.forward

    return undo


def first_token_attention(
    attention: nn.Module,
    full_forward: Callable[..., Any],
    states: Tensor,
    mask: Tensor | None = None,
    **options: Any,  # a layer passes more options to every attention
) -> Any:
    """The attention block of a BERT layer: states [B, L, D], mask [B, 1, L, L] -> the first token's [B, 1, D]."""
    if current_request() != LOGITS_ONLY:
        return full_forward(states, mask, **options)
    inner: Any = attention.self
    first = states[:, :1]
    query, key, value = (
        layer(values).unflatten(-1, (inner.num_attention_heads, -1)).transpose(1, 2)
        for layer, values in ((inner.query, first), (inner.key, states), (inner.value, states))
    )
    context, _ = fast_attention(
        inner, query, key, value, None if mask is None else mask[:, :, :1], scaling=inner.scaling,
        dropout=inner.dropout.p if inner.training else 0.0,
    )  # fmt: skip
    output: Any = attention.output
    return output(context.flatten(2), first), None
