"""Train a teacher of any kind: one model for its domains, or a shared encoder with a head for each."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from metakd.data.encoding import EncodedRows, encode
from metakd.data.few_labels import hide_labels
from metakd.data.labels import Labels
from metakd.data.tables import LABELLED, TRAINING
from metakd.errors import InputError
from metakd.manifests import find_manifest, read_json, to_jsonable
from metakd.methods.method import Prototypes
from metakd.models.domain_head import DomainHead
from metakd.models.model_io import ModelInfo, save_model
from metakd.objectives.features import TRANSFERABLE
from metakd.paths import folder_name
from metakd.training.dry_run import load_with_tokenizer, try_features
from metakd.training.jobs import MultiTaskJob, TeacherJob
from metakd.training.plan import TeacherPlan, teacher_facts
from metakd.training.runtime import seed_everything
from metakd.weighting.row_weights import check_prototype_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TeacherInputs:
    """The pretrained model and the rows that a teacher is trained on.

    Args:
        model, tokenizer: at their start.
        rows, dev: labelled rows, domains numbered as in `domains`.
        domains: those that the teacher is trained on.
        labels: the task's.
    """

    plan: TeacherPlan
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    rows: EncodedRows
    dev: EncodedRows
    domains: list[str]
    labels: Labels

    def save(self, folder: Path, model: PreTrainedModel, domains: list[str], head: DomainHead | None) -> None:
        """Write a trained model and how it was trained."""
        recipe: dict[str, Any] = teacher_facts(self.plan.recipe, self.plan.prototypes)
        info = ModelInfo(domains, self.plan.task.max_length, recipe=recipe)
        save_model(folder, model, self.tokenizer, info, {"domain_head": head})


@dataclass(frozen=True)
class TeacherTraining:
    """What the loop trains, the dev rows that epochs are compared on, and the function that writes the result."""

    job: TeacherJob | MultiTaskJob
    dev: EncodedRows
    save: Callable[[Path], None]


def prepare_teacher(plan: TeacherPlan, labels: Labels, domains: list[str], accelerator: Accelerator) -> TeacherTraining:
    """Load what a teacher's plan reads, and refuse what does not fit.

    Args:
        labels, domains: the task's.
    """
    seed_everything(plan.task.training.seed)
    inputs = load_inputs(plan, labels, domains)
    return multi_task_teacher(inputs, accelerator) if plan.recipe.kind == "mtl" else one_model(inputs, accelerator)


def load_inputs(plan: TeacherPlan, labels: Labels, domains: list[str]) -> TeacherInputs:
    """The pretrained model, and the rows with visible labels of the domains that the teacher is trained on.

    Raises:
        InputError: nothing is left to train or to choose epochs on, or prototype weights do not fit.
    """
    task, selection, recipe = plan.task, plan.selection, plan.recipe
    labels.require_classes()
    name, max_length = plan.inputs["pretrained"], task.max_length
    model, tokenizer = load_with_tokenizer(name, labels, max_length)
    rows = encode(plan.inputs["train"], tokenizer, max_length, labels, domains, TRAINING)
    dev = encode(plan.inputs["dev"], tokenizer, max_length, labels, domains, LABELLED)
    if recipe.kind in ("single", "multi"):
        trained_on = [selection.domain]
    else:
        trained_on = [name for name in domains if name != selection.exclude_domain]
    if selection.domain:
        of_domain = rows.domains == domains.index(selection.domain)
        rows = hide_labels(rows, of_domain, selection.fraction, task.training.seed, task.problem)
    in_training = np.array([name in trained_on for name in domains])
    rows = rows.without_labels(~in_training[rows.domains])
    used = rows.labelled
    if recipe.needs_prototypes and len(trained_on) > 1:
        check_prototype_weights(rows, used, plan.inputs["train"])
        check_prototypes(Path(plan.inputs["train"]), plan.prototypes)
    log.info("the teacher is trained on %d labelled rows of %d: %s", used.sum(), len(rows), ", ".join(trained_on))
    numbers = np.array([trained_on.index(name) if name in trained_on else -1 for name in domains])
    on_dev = in_training[dev.domains]
    if selection.fraction < 1:  # whoever has few labels of a domain has no dev labels of it
        on_dev &= dev.domains != domains.index(selection.domain)
    dev_needed = trained_on != [selection.domain] or selection.fraction == 1
    for chosen, role, needed in ((used, "train", True), (on_dev, "dev", dev_needed)):
        if needed and not chosen.any():
            raise InputError(f"{plan.inputs[role]} has no labelled row of {', '.join(trained_on)}")
    rows, dev = rows.select(np.flatnonzero(used)), dev.select(np.flatnonzero(on_dev))
    rows, dev = (replace(part, domains=numbers[part.domains]) for part in (rows, dev))
    return TeacherInputs(plan, model, tokenizer, rows, dev, trained_on, labels)


def check_prototypes(table: Path, wanted: Prototypes | None) -> None:
    """Refuse weights that prototype_weights.py computed for other prototypes than the method's; any others pass."""
    manifest = find_manifest(table)
    settings = read_json(manifest).get("settings") if manifest is not None else None
    made = settings.get("prototypes") if isinstance(settings, dict) else None
    if made is not None and wanted is not None and made != to_jsonable(wanted):
        raise InputError(
            f"{table} has the weights of prototypes {made}, the method says {to_jsonable(wanted)}; compute the weights "
            "again with this method"
        )


def one_model(inputs: TeacherInputs, accelerator: Accelerator) -> TeacherTraining:
    """One model for all its domains (single, mix, meta)."""
    rows, recipe, task = inputs.rows, inputs.plan.recipe, inputs.plan.task
    if len(inputs.domains) == 1 and recipe.kind == "meta":
        log.info("one domain: all prototype weights are 1, and there is no domain loss")
        rows = replace(rows, weights=np.ones(len(rows)))
    elif recipe.needs_prototypes and not rows.weights.any():
        raise InputError("every row has prototype weight 0; make the weights again, or set teacher.row_weight: uniform")
    with_domain_loss = len(inputs.domains) > 1 and recipe.domain_loss_weight > 0
    head = DomainHead(inputs.model.config.hidden_size, len(inputs.domains)) if with_domain_loss else None
    if head is not None:
        name = inputs.plan.inputs["pretrained"]
        try_features(inputs.model, inputs.tokenizer, task.max_length, [TRANSFERABLE], head, name)
    job = TeacherJob(
        inputs.model, head, rows, inputs.dev, inputs.domains, recipe, inputs.labels, accelerator, task.training.seed,
        task.select_by, task.own_labels,
    )  # fmt: skip
    return TeacherTraining(job, inputs.dev, lambda folder: inputs.save(folder, inputs.model, inputs.domains, head))


def multi_task_teacher(inputs: TeacherInputs, accelerator: Accelerator) -> TeacherTraining:
    """A model per domain; all share the encoder and differ in the classification head (MTL in Meta-KD, section 4).

    Raises:
        InputError: a domain without labelled rows.
    """
    empty = [name for k, name in enumerate(inputs.domains) if not (inputs.rows.domains == k).any()]
    if empty:
        raise InputError(f"teacher.kind: mtl: no labelled training rows of {empty}; leave them out of task.domains")
    models = [inputs.model]
    for _ in inputs.domains[1:]:
        model = copy.deepcopy(inputs.model)
        setattr(model, model.base_model_prefix, inputs.model.base_model)
        models.append(model)

    def save(folder: Path) -> None:
        for name, model in zip(inputs.domains, models, strict=True):
            (folder / folder_name(name)).mkdir(exist_ok=True)
            inputs.save(folder / folder_name(name), model, [name], None)

    task = inputs.plan.task
    job = MultiTaskJob(
        models, inputs.rows, inputs.dev, inputs.domains, inputs.labels, accelerator, task.select_by, task.own_labels
    )
    return TeacherTraining(job, inputs.dev, save)
