"""Frozen teachers, and the average of several teachers' logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.special import expit, log_softmax, logit, logsumexp
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from metakd.config import Task
from metakd.data.labels import Labels, ProblemType
from metakd.errors import InputError
from metakd.models.classifier import is_classifier, labels_of
from metakd.models.domain_head import DomainHead
from metakd.models.loading import labels_to_load, load_config
from metakd.models.model_io import ModelInfo, load_domain_head, load_info
from metakd.training.dry_run import load_with_tokenizer


@dataclass
class Teacher:
    """A frozen teacher.

    Args:
        name: its folder or Hub name.
        model: in eval mode.
        tokenizer: its own.
        head: its domain head over the task's domains, or None.
        info: how it was trained; None for a model that is not ours.
        labels: of its logits; None if it has no trained classifier.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    head: DomainHead | None
    info: ModelInfo | None
    labels: Labels | None


def load_teacher(name: str, task: Task, labels: Labels, domains: list[str], device: torch.device) -> Teacher:
    """A trained teacher, or a pretrained encoder of which only the activations are matched.

    Args:
        labels: the student's, all of which a trained teacher must know.
        domains: the task's; the teacher's domain head is reordered to them.
    """
    trained = is_classifier(load_config(name))
    model, tokenizer = load_with_tokenizer(name, labels_to_load(name, labels), task.max_length)
    model.to(device).eval()
    loaded = load_domain_head(name, model.config.hidden_size)
    head = loaded[0].for_domains(loaded[1], domains).to(device).eval() if loaded else None
    for module in filter(None, (model, head)):
        module.requires_grad_(False)
    return Teacher(name, model, tokenizer, head, load_info(name), labels_of(model.config) if trained else None)


def average_logits(
    logits: Sequence[np.ndarray],
    weights: Sequence[float] | None,
    average: Literal["probabilities", "logits"],
    problem: ProblemType,
) -> np.ndarray:
    """Logits [n, C] of several teachers as one teacher's.

    "logits": their weighted mean (as TextBrewer's multi-teacher distiller averages). "probabilities": logits whose
    probabilities are the weighted mean of the teachers' (as in You et al. 2017, "Learning from Multiple Teacher
    Networks"); a regression has none, so its values are averaged. The mean is taken at temperature 1; a term's
    temperature then softens the mean, which differs from the mean of softened probabilities.

    Args:
        logits: [n, C] of each teacher, in one label order.
        weights: of each teacher; equal by default.

    Raises:
        InputError: not as many weights as teachers.
    """
    if weights is not None and len(weights) != len(logits):
        raise InputError(
            f"teacher.average_weights has {len(weights)} numbers for {len(logits)} teachers; give one for each"
        )
    fractions = np.asarray(weights or [1.0] * len(logits), dtype=np.float64)
    fractions = fractions / fractions.sum()
    stacked = np.stack([values.astype(np.float64) for values in logits])
    if average == "logits" or problem == "regression":
        mean = np.tensordot(fractions, stacked, axes=1)
    elif problem == "multi_label":
        mean = logit(np.clip(np.tensordot(fractions, expit(stacked), axes=1), 1e-12, 1 - 1e-12))
    else:
        mean = logsumexp(log_softmax(stacked, axis=-1), axis=0, b=fractions[:, None, None])
    return mean.astype(np.float32)
