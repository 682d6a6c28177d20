"""From token states to one vector per row."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedModel

from metakd.data.encoding import Batch, model_inputs


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens of a mask: states [B, L, D], mask [B, L] -> [B, D]; an empty mask gives zeros."""
    weights = mask.to(states.dtype).unsqueeze(-1)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


def embed(encoder: PreTrainedModel, batch: Batch) -> Tensor:
    """E(x) [B, D]: mean of the last hidden states over content tokens, in fp32 (Meta-KD, section 3.2)."""
    states = encoder(**model_inputs(batch)).last_hidden_state
    return masked_mean(states.float(), batch["content_mask"])
