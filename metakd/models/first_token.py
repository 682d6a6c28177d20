"""The last layer for the first token alone, where a classifier reads no other: most of a layer's work saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from metakd.models.attention import NAME, attention_with_scores
from metakd.models.classifier import layer_prefix

# Families whose classifiers read the first token, and whose layers have BERT's parts.
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")


@contextmanager
def first_token_only(model: PreTrainedModel) -> Iterator[None]:
    """For a while compute the same logits of a classifier without the last layer's states of all other tokens.

    The other tokens still give their keys and values. A model of another family is left as it is.
    """
    if model.config.model_type not in FAMILIES or model.config._attn_implementation not in ("sdpa", NAME):
        yield
        return
    last = model.get_submodule(f"{layer_prefix(model)}{model.config.num_hidden_layers - 1}.attention")
    last.forward = partial(first_token_attention, last)
    try:
        yield
    finally:
        del last.forward


def first_token_attention(
    attention: nn.Module,
    states: Tensor,
    mask: Tensor | None = None,
    **options: Any,  # what a layer passes on to every attention
) -> tuple[Tensor, None]:
    """The attention block of a BERT layer: states [B, L, D], mask [B, 1, L, L] -> first token's [B, 1, D]."""
    inner: Any = attention.self
    first = states[:, :1]
    query, key, value = (
        layer(values).unflatten(-1, (inner.num_attention_heads, -1)).transpose(1, 2)
        for layer, values in ((inner.query, first), (inner.key, states), (inner.value, states))
    )
    found, _ = attention_with_scores(
        inner, query, key, value, None if mask is None else mask[:, :, :1], scaling=inner.scaling,
        dropout=inner.dropout.p if inner.training else 0.0,
    )  # fmt: skip
    output: Any = attention.output
    return output(found.flatten(2), first), None
