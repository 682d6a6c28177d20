"""Domain-expertise weights: how much to trust the teacher on a row."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax


def expertise_weights(
    scores: np.ndarray, teacher_logits: np.ndarray, labels: np.ndarray, labelled: np.ndarray
) -> np.ndarray:
    """lambda_i = (1 + t_i) / (1 + exp((p_teacher(y_i | x_i) - 1)^2)) of every row [n] (Meta-KD, section 3.3).

    Largest, (1 + t_i) / 2, where the teacher is sure of the true label. For a row without label, the teacher's
    confidence replaces both p(y) and t. EasyNLP has the same formula.

    Args:
        scores: prototype scores t [n].
        teacher_logits: [n, C].
        labels: true classes [n], numbered like the logits.
        labelled: which rows have a label (bool [n]).
    """
    probabilities = softmax(teacher_logits.astype(np.float64), axis=1)
    p_label = np.where(labelled, probabilities[np.arange(len(labels)), labels], confidence(teacher_logits))
    return (1 + prototype_weights(scores, teacher_logits, labelled)) / (1 + np.exp((p_label - 1) ** 2))


def prototype_weights(scores: np.ndarray, teacher_logits: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """t [n]; for a row without label, and so without prototype, the teacher's confidence."""
    return scores if labelled.all() else np.where(labelled, scores, confidence(teacher_logits))


def confidence(logits: np.ndarray) -> np.ndarray:
    """Probability of the most likely class [n]."""
    return softmax(logits.astype(np.float64), axis=1).max(1)
