"""Plain attention where a layer has dropout: no fused attention kernel of a CPU knows dropout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from metakd.cpu.dropout import drop
from metakd.models.attention import LAYER, current_capture, is_plain, plain_attention

FAST = "metakd_cpu"
SHORT = 64  # keys; below, the bf16 softmax of a CPU is up to 5 times slower than the fp32 one, its gradient 8 times


def fast_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,  # the interface passes more options to every attention function
) -> tuple[Tensor, Tensor | None]:
    """`metakd.models.attention.reading_attention` with the same shapes; layers with dropout are plain products too."""
    wanted = current_capture(module, query, key, value).computes(getattr(module, LAYER, None))
    if wanted or (dropout > 0 and is_plain(module, query, key, attention_mask, options)):
        output = plain_attention(
            module, query, key, value, attention_mask, scaling, dropout, options, normalise=fast_softmax, drop=drop
        )
        return output, None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
    )


def fast_softmax(scores: Tensor) -> Tensor:
    return scores.softmax(-1, dtype=torch.float32 if scores.shape[-1] < SHORT else None)


AttentionInterface.register(FAST, fast_attention)
AttentionMaskInterface.register(FAST, sdpa_mask)
