"""Domain-expertise weights: how far the teacher is to be trusted on a row."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax


def expertise_weights(scores: np.ndarray, teacher_logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """lambda_i = (1 + t_i) / (1 + exp((p_teacher(y_i | x_i) - 1)^2)) of every row [n] (Meta-KD, section 3.3).

    Largest, (1 + t_i) / 2, where the teacher is sure of the true label; the transferable row counts more.

    Args:
        scores: prototype scores t [n].
        teacher_logits: [n, C].
        labels: true classes [n], numbered like the logits.
    """
    right = softmax(teacher_logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    return (1 + scores) / (1 + np.exp((right - 1) ** 2))
