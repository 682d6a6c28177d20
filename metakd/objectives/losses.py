"""Losses, one number per row: [B]. Rows are weighted, summed and divided elsewhere, once.

All are computed in fp32. `mask` [B, L] is 1 at tokens, 0 at padding; padding never counts, so that a row's
loss does not depend on the length of the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from metakd.models.attention import attended
from metakd.models.pooling import masked_mean


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """-log softmax(logits)[label]: logits [B, C], label [B] -> [B]."""
    return F.cross_entropy(logits.float(), label, reduction="none")


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """-T^2 sum_c softmax(teacher/T) log softmax(student/T), over logits [B, C] -> [B].

    Hinton, Vinyals & Dean (2015), section 2: T^2 keeps the gradients' size as T changes.
    """
    target = (teacher.float() / temperature).softmax(-1)
    return -(target * (student.float() / temperature).log_softmax(-1)).sum(-1) * temperature**2


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher/T) || softmax(student/T)), over logits [B, C] -> [B].

    Has the gradient of `soft_cross_entropy`, and is 0 where student and teacher agree.
    """
    target = (teacher.float() / temperature).log_softmax(-1)
    found = (student.float() / temperature).log_softmax(-1)
    return (target.exp() * (target - found)).sum(-1) * temperature**2


def logits_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference over the classes: [B, C] -> [B] (Ba & Caruana 2014)."""
    return (student.float() - teacher.float()).square().mean(-1)


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference over a row's tokens and dimensions: [B, L, D] -> [B] (TinyBERT, equation 8)."""
    per_token = (student.float() - teacher.float()).square().mean(-1)
    return masked_mean(per_token.unsqueeze(-1), mask).squeeze(-1)


def feature_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference over dimensions: [B, D] -> [B] (Meta-KD, section 3.3)."""
    return (student.float() - teacher.float()).square().mean(-1)


def attention_score_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of raw scores over heads and attended pairs of tokens: [B, H, L, L] -> [B].

    TinyBERT, equation 7, which matches scores before the softmax. Where the head counts differ, both are
    averaged over their heads first.
    """
    # What is attended is the same for all heads.
    seen = attended(student[:, :1]) & attended(teacher[:, :1]) & mask.bool()[:, None, :, None]
    student, teacher = match_heads(student.float(), teacher.float())
    difference = torch.where(seen, student - teacher, 0.0)
    return difference.square().sum((1, 2, 3)) / (seen.sum((1, 2, 3)) * student.shape[1]).clamp(min=1)


def attention_probability_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of softmax(scores) over heads and pairs of tokens: [B, H, L, L] -> [B]."""
    student, teacher = match_heads(student.float().softmax(-1), teacher.float().softmax(-1))
    pairs = (mask[:, None, :, None] * mask[:, None, None, :]).bool()
    difference = torch.where(pairs, student - teacher, 0.0)
    return difference.square().sum((1, 2, 3)) / (pairs.sum((1, 2, 3)) * student.shape[1]).clamp(min=1)


def match_heads(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average both over their heads if the head counts differ: [B, H, L, L] -> [B, 1, L, L]."""
    if student.shape[1] == teacher.shape[1]:
        return student, teacher
    return student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)
