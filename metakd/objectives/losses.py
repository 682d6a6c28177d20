"""Losses of a model's outputs, one number per row: [B], in fp32. The training loop weights, sums and divides rows."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """-log softmax(logits)[label]: logits [B, C], label [B] -> [B]."""
    return F.cross_entropy(logits.float(), label, reduction="none")


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over classes of each class's own yes or no: logits [B, C], target [B, C] of 0 and 1 -> [B]."""
    return F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none").mean(-1)


def squared_error(logits: Tensor, target: Tensor) -> Tensor:
    """(logits - target)^2: logits [B, 1], target [B] -> [B]."""
    return (logits.float().squeeze(-1) - target.float()).square()


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """-T^2 sum_c softmax(teacher/T) log softmax(student/T), over logits [B, C] -> [B].

    Hinton, Vinyals & Dean (2015), section 2: T^2 keeps the gradients' size as T changes.
    """
    target = softened(teacher, temperature).softmax(-1)
    return -(target * softened(student, temperature).log_softmax(-1)).sum(-1) * temperature**2


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher/T) || softmax(student/T)), over logits [B, C] -> [B].

    Has the gradient of `soft_cross_entropy`, and is 0 where student and teacher agree.
    """
    target = softened(teacher, temperature).log_softmax(-1)
    predicted = softened(student, temperature).log_softmax(-1)
    return divergence(target, predicted) * temperature**2


def reverse_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(student/T) || softmax(teacher/T)), over logits [B, C] -> [B].

    Penalises what the student finds likely and the teacher does not (MiniLLM, Gu et al. 2023, section 2.1).
    """
    return kl_divergence(teacher, student, temperature)


def jensen_shannon(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 (KL(s || m) + KL(t || m)) / 2 with m = (s + t) / 2, of softened logits [B, C] -> [B].

    Lin (1991): symmetric, and never above T^2 log 2.
    """
    target = softened(teacher, temperature).log_softmax(-1)
    predicted = softened(student, temperature).log_softmax(-1)
    middle = target.logaddexp(predicted) - math.log(2)
    return (divergence(target, middle) + divergence(predicted, middle)) / 2 * temperature**2


def soft_binary_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean over classes of BCE(student/T) against sigmoid(teacher/T), over logits [B, C] -> [B].

    `soft_cross_entropy` of each class's own yes or no.
    """
    target = softened(teacher, temperature).sigmoid()
    predicted = softened(student, temperature)
    return F.binary_cross_entropy_with_logits(predicted, target, reduction="none").mean(-1) * temperature**2


def binary_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean over classes of KL(sigmoid(teacher/T) || sigmoid(student/T)), over logits [B, C] -> [B].

    Has the gradient of `soft_binary_cross_entropy`, and is 0 where student and teacher agree.
    """
    predicted, target = (
        F.logsigmoid(torch.stack([logits, -logits], -1))  # of yes and of no: [B, C, 2]
        for logits in (softened(student, temperature), softened(teacher, temperature))
    )
    return divergence(target, predicted).mean(-1) * temperature**2


def logits_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference over the classes: [B, C] -> [B] (Ba & Caruana 2014).

    No temperature: T^2 times the squared difference of logits/T is the same number at every T.
    """
    return (student.float() - teacher.float()).square().mean(-1)


def logits_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine over the classes: [B, C] -> [B]. Only the logits' direction counts, not their size."""
    return 1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)


def hard_label(student: Tensor, teacher: Tensor) -> Tensor:
    """`cross_entropy` against the teacher's most probable class: logits [B, C] -> [B].

    What sequence-level distillation (Kim & Rush 2016) is to a translator: the teacher's answer is the target.
    """
    return cross_entropy(student, teacher.argmax(-1))


def hard_binary_labels(student: Tensor, teacher: Tensor) -> Tensor:
    """`binary_cross_entropy` against the classes that the teacher finds more probable than not: [B, C] -> [B]."""
    return binary_cross_entropy(student, teacher > 0)


def softened(logits: Tensor, temperature: float) -> Tensor:
    """logits/T in fp32: [B, C] -> [B, C]."""
    return logits.float() / temperature


def divergence(target: Tensor, predicted: Tensor) -> Tensor:
    """KL(target || predicted) of log-probabilities over the last dimension: [..., C] -> [...]."""
    return (target.exp() * (target - predicted)).sum(-1)
