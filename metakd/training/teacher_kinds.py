"""The kinds of teachers: one model for all its domains, or a shared encoder with a head for each."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

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
class Material:
    """What a teacher is made of.

    Args:
        model, tokenizer: at their start.
        rows, dev: labelled rows, domains numbered as in `domains`.
        domains: those that the teacher is trained on.
        labels: the task's.
        max_length: tokens a row is cut to.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    rows: EncodedRows
    dev: EncodedRows
    domains: list[str]
    labels: Labels
    max_length: int

    def save(self, folder: Path, model: PreTrainedModel, domains: list[str], head: DomainHead | None) -> None:
        save_model(folder, model, self.tokenizer, ModelInfo(domains, self.max_length), {"domain_head": head})


@dataclass(frozen=True)
class TeacherInTraining:
    """What the loop trains, and how the result is written to a folder."""

    problem: Problem
    save: Callable[[Path], None]


def load_material(task: Task, labels: Labels, selection: Selection, weighted: bool) -> Material:
    """The pretrained model and the rows that the teacher may see.

    Args:
        weighted: prototype weights are used, so they must be there and must know no hidden label.

    Raises:
        InputError: nothing is left to train or to choose on.
    """
    model, tokenizer = load_classifier(task.teacher, labels), load_tokenizer(task.teacher)
    check_tokenizer(model, tokenizer, task.max_length, task.teacher)
    domains = selection.domains
    rows = encode(task.train, tokenizer, task.max_length, labels, domains, TRAINING)
    dev = encode(task.dev, tokenizer, task.max_length, labels, domains, LABELLED)
    taught = np.array([name in selection.taught for name in domains])
    if selection.few:
        few = rows.domains == domains.index(selection.few)
        rows = hide_labels(rows, few, selection.fraction, task.training.seed, task.problem)
    rows = rows.without_labels(~taught[rows.domains])
    used = rows.labelled
    if weighted and len(selection.taught) > 1:
        check_weights(rows, used, task.train)
    log.info("the teacher sees %d labelled rows of %d: domains %s", used.sum(), len(rows), selection.taught)
    found = []
    for part, chosen, path in ((rows, used, task.train), (dev, taught[dev.domains], task.dev)):
        if not chosen.any():
            raise InputError(f"{path} has no labelled row of {selection.taught}")
        kept = part.select(np.flatnonzero(chosen))
        numbers = np.array([selection.taught.index(name) if name in selection.taught else -1 for name in domains])
        found.append(replace(kept, domains=numbers[kept.domains]))
    return Material(model, tokenizer, found[0], found[1], selection.taught, labels, task.max_length)


def one_teacher(found: Material, meta: MetaTeacher, accelerator: Accelerator) -> TeacherInTraining:
    """One model for all the domains (single, mix, meta)."""
    rows = found.rows
    if len(found.domains) == 1 and meta != MetaTeacher("uniform", 0.0):
        log.info("one domain: all weights are 1, and there is no domain loss")
        rows = replace(rows, weights=np.ones(len(rows)))
    with_domain = len(found.domains) > 1 and meta.domain_loss_weight > 0
    head = DomainHead(found.model.config.hidden_size, len(found.domains)) if with_domain else None
    problem = MetaTeacherProblem(found.model, head, rows, found.dev, found.domains, meta, found.labels, accelerator)
    return TeacherInTraining(problem, lambda folder: found.save(folder, found.model, found.domains, head))


def mtl_teacher(found: Material, accelerator: Accelerator) -> TeacherInTraining:
    """A model per domain; all share the encoder, and differ in the classification head (MTL in Meta-KD, section 4)."""
    empty = [name for k, name in enumerate(found.domains) if not (found.rows.domains == k).any()]
    if empty:
        raise InputError(f"--kind mtl: no labelled training rows of {empty}; leave them out of task.domains")
    models = [found.model]
    for _ in found.domains[1:]:
        other = copy.deepcopy(found.model)
        setattr(other, other.base_model_prefix, found.model.base_model)
        models.append(other)

    def save(folder: Path) -> None:
        for name, model in zip(found.domains, models, strict=True):
            (folder / folder_name(name)).mkdir(exist_ok=True)
            found.save(folder / folder_name(name), model, [name], None)

    problem = MultiTaskProblem(models, found.rows, found.dev, found.domains, found.labels, accelerator)
    return TeacherInTraining(problem, save)
