"""Domain-expertise weights: how far the teacher is to be trusted on a row."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax


def expertise_weights(
    scores: np.ndarray, teacher_logits: np.ndarray, labels: np.ndarray, labelled: np.ndarray
) -> np.ndarray:
    """lambda_i = (1 + t_i) / (1 + exp((p_teacher(y_i | x_i) - 1)^2)) of every row [n] (Meta-KD, section 3.3).

    Largest, (1 + t_i) / 2, where the teacher is sure of the true label; the transferable row counts more. Where a
    row has no label, the teacher's confidence stands for both p(y) and t. The released code has the same formula.

    Args:
        scores: prototype scores t [n].
        teacher_logits: [n, C].
        labels: true classes [n], numbered like the logits.
        labelled: which rows have a label (bool [n]).
    """
    probabilities = softmax(teacher_logits.astype(np.float64), axis=1)
    right = np.where(labelled, probabilities[np.arange(len(labels)), labels], confidence(teacher_logits))
    return (1 + prototype_weights(scores, teacher_logits, labelled)) / (1 + np.exp((right - 1) ** 2))


def prototype_weights(scores: np.ndarray, teacher_logits: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """t [n]; where a row has no label, and so no prototype, the teacher's confidence."""
    return scores if labelled.all() else np.where(labelled, scores, confidence(teacher_logits))


def confidence(logits: np.ndarray) -> np.ndarray:
    """Probability of the likeliest class [n]."""
    return softmax(logits.astype(np.float64), axis=1).max(1)
