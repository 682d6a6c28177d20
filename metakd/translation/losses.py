"""Losses of a translator: per token, then summed over the tokens of a row; the loop divides by all tokens of a step."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from metakd.objectives.losses import divergence, softened


def smoothed_cross_entropy(logits: Tensor, target: Tensor, mask: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with label smoothing, summed over the tokens of each row.

    fairseq's form (label_smoothed_cross_entropy): with eps_i = eps / (V - 1), the loss of a token is
    (1 - eps - eps_i) * -log p(y) + eps_i * sum over the vocabulary of -log p(v).

    Args:
        logits: [B, L, V].
        target: ids [B, L].
        mask: 1 for tokens that count, 0 for padding [B, L].
        smoothing: eps, from 0 to below 1.

    Returns:
        [B]
    """
    log_probabilities = logits.float().log_softmax(-1)
    losses = -log_probabilities.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    if smoothing:
        each = smoothing / (logits.shape[-1] - 1)
        losses = (1 - smoothing - each) * losses - each * log_probabilities.sum(-1)
    return (losses * mask).sum(-1)


def token_kl(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 * KL(teacher/T || student/T) over the vocabulary, summed over the tokens of each row.

    Word-level distillation (Kim & Rush 2016, arXiv 1606.07947, section 3.1); KL instead of their cross-entropy, which
    differs by the teacher's entropy and so has the same gradient.

    Args:
        student, teacher: logits [B, L, V].
        mask: 1 for tokens that count, 0 for padding [B, L].

    Returns:
        [B]
    """
    target, predicted = (F.log_softmax(softened(logits, temperature), -1) for logits in (teacher, student))
    return (divergence(target, predicted) * mask).sum(-1) * temperature**2
