"""The kinds of teachers: one model for all its domains, or a shared encoder with a head for each."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from metakd.config import MetaTeacher, Task, folder_name
from metakd.data.encoding import EncodedRows, encode, load_tokenizer
from metakd.data.few_labels import check_weights, hide_labels
from metakd.data.labels import Labels
from metakd.data.tables import LABELLED, TRAINING
from metakd.errors import InputError
from metakd.models.classifier import check_tokenizer, load_classifier
from metakd.models.domain_head import DomainHead
from metakd.models.folders import ModelInfo, save_model
from metakd.training.loop import Problem
from metakd.training.problems import MetaTeacherProblem, MultiTaskProblem

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """Whose rows, and which of their labels, a teacher may see.

    Args:
        domains: the task's.
        taught: those that the teacher is trained on.
        few: the domain of which only a fraction of the labels may be seen; "" for none.
        fraction: that share.
    """

    domains: list[str]
    taught: list[str]
    few: str
    fraction: float


@dataclass(frozen=True)
class TeacherInTraining:
    """What the loop trains, and how the result is written to a folder."""

    problem: Problem
    save: Callable[[Path], None]


def teacher_rows(
    task: Task, labels: Labels, selection: Selection, weighted: bool
) -> tuple[EncodedRows, EncodedRows, PreTrainedTokenizerBase]:
    """Training and dev rows with the domains numbered as in `selection.taught`, and the teacher's tokenizer.

    Args:
        weighted: prototype weights are used, so they must be there and must know no hidden label.

    Raises:
        InputError: nothing is left to train or to choose on.
    """
    tokenizer = load_tokenizer(task.teacher)
    domains = selection.domains
    rows = encode(task.train, tokenizer, task.max_length, labels, domains, TRAINING)
    dev = encode(task.dev, tokenizer, task.max_length, labels, domains, LABELLED)
    taught = np.array([name in selection.taught for name in domains])
    if selection.few:
        few = rows.domains == domains.index(selection.few)
        rows = hide_labels(rows, few, selection.fraction, task.training.seed)
    hidden = rows.without_labels(~taught[rows.domains])
    used = hidden.labelled
    if weighted and len(selection.taught) > 1:
        check_weights(hidden, used, task.train)
    log.info("the teacher sees %d labelled rows of %d: domains %s", used.sum(), len(rows), selection.taught)
    found = []
    for part, chosen, path in ((rows, used, task.train), (dev, taught[dev.domains], task.dev)):
        if not chosen.any():
            raise InputError(f"{path} has no labelled row of {selection.taught}")
        kept = part.select(np.flatnonzero(chosen))
        numbers = np.array([selection.taught.index(name) if name in selection.taught else -1 for name in domains])
        found.append(replace(kept, domains=numbers[kept.domains]))
    return found[0], found[1], tokenizer


def one_teacher(
    task: Task, labels: Labels, domains: list[str], rows: EncodedRows, dev: EncodedRows,
    tokenizer: PreTrainedTokenizerBase, meta: MetaTeacher, accelerator: Accelerator,
) -> TeacherInTraining:  # fmt: skip
    """One model for all the domains (single, mix, meta)."""
    model = load_classifier(task.teacher, labels)
    check_tokenizer(model, tokenizer, task.max_length, task.teacher)
    if len(domains) == 1 and meta != MetaTeacher("uniform", 0.0):
        log.info("one domain: all weights are 1, and there is no domain loss")
        rows = replace(rows, weights=np.ones(len(rows)))
    with_domain = len(domains) > 1 and meta.domain_loss_weight > 0
    head = DomainHead(model.config.hidden_size, len(domains)) if with_domain else None
    problem = MetaTeacherProblem(model, head, rows, dev, domains, meta, labels, accelerator)

    def save(folder: Path) -> None:
        save_model(folder, model, tokenizer, ModelInfo(domains, task.max_length), {"domain_head": head})

    return TeacherInTraining(problem, save)


def mtl_teacher(
    task: Task, labels: Labels, domains: list[str], rows: EncodedRows, dev: EncodedRows,
    tokenizer: PreTrainedTokenizerBase, meta: MetaTeacher, accelerator: Accelerator,
) -> TeacherInTraining:  # fmt: skip
    """A model per domain; all share the encoder, and differ in the classification head (MTL in Meta-KD, section 4)."""
    model = load_classifier(task.teacher, labels)
    check_tokenizer(model, tokenizer, task.max_length, task.teacher)
    models = [model]
    for _ in domains[1:]:
        other = copy.deepcopy(model)
        setattr(other, other.base_model_prefix, model.base_model)
        models.append(other)
    problem = MultiTaskProblem(models, rows, dev, domains, labels, accelerator)

    def save(folder: Path) -> None:
        for name, of_domain in zip(domains, models, strict=True):
            place = folder / folder_name(name)
            place.mkdir(exist_ok=True)
            save_model(place, of_domain, tokenizer, ModelInfo([name], task.max_length), {})

    return TeacherInTraining(problem, save)
