"""Run the prepared stages of a distillation, one after the other."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from metakd.evaluation.metrics import baseline
from metakd.objectives.describe import layer_table, objective_line
from metakd.objectives.distillation import DistillationObjective
from metakd.objectives.terms import wanted_features
from metakd.paths import folder_name
from metakd.training.jobs import DistillationJob
from metakd.training.loop import epochs_of
from metakd.training.plan import scaled_budget
from metakd.training.prepared import DistillationRun, PreparedStage
from metakd.training.runtime import on_one_machine, seed_everything
from metakd.training.soups import fit_soup
from metakd.training.teacher_outputs import CachedTeacherOutputs, TeacherOutputs

log = logging.getLogger(__name__)
FAR_BELOW = 0.03  # of the dev score


def distill(run: DistillationRun, scratch: Path) -> dict[str, Any]:
    """Train the student through all stages; returns each stage's history, with its number of rows.

    Args:
        scratch: folder for checkpoints and caches.
    """
    histories: dict[str, Any] = {}
    run.auxiliary_modules["domain_head"] = run.head
    for prepared in run.stages:
        name, training = prepared.stage.name, run.plan.task.training
        folder = scratch / f"stage-{prepared.number}"
        rows, budget = prepared.rows, scaled_budget(prepared.stage, run.plan.task)
        epochs = epochs_of(budget, rows.lengths, training, f"stage {name}")
        job = stage_job(run, prepared, epochs, folder / "teacher")
        log_stage(run, prepared)
        runs, rate = prepared.stage.soup, prepared.stage.learning_rate
        soup = fit_soup(runs, job, run.accelerator, epochs, rate, training, folder, name)
        histories[name] = {**soup.history(), "rows": len(rows), "labelled": int(rows.labelled.sum())}
        run.auxiliary_modules[f"projections-{folder_name(name)}"] = job.projections
        if run.accelerator.is_main_process:  # `fit` has waited for all processes
            shutil.rmtree(folder / "teacher", ignore_errors=True)
        if prepared is run.stages[-1]:
            warn_if_weak(run, prepared, soup.scores)
    return histories


def stage_job(run: DistillationRun, prepared: PreparedStage, epochs: int, cache: Path) -> DistillationJob:
    """A prepared stage as the training loop takes it.

    Args:
        cache: folder for the teacher's features.
    """
    teacher, training = prepared.teacher, run.plan.task.training
    wanted, _ = wanted_features(prepared.terms)
    # Fresh projections are the same in a resumed run, and in a stage that runs alone.
    seed_everything(training.seed, prepared.number)
    with_head = any(b.term.feature == "transferable" for b in prepared.terms)
    head = run.head if with_head else None
    objective = DistillationObjective(run.student, prepared.terms, teacher.model.config if teacher else None, head)
    # An accelerator computes faster than a disk delivers, one epoch alone reads nothing twice, and processes on
    # several machines share a file only if they share a disk.
    cached = run.accelerator.device.type == "cpu" and training.cpu_tuning == "auto"
    if teacher is not None and cached and epochs * prepared.stage.soup > 1 and on_one_machine(run.accelerator):
        outputs: TeacherOutputs = CachedTeacherOutputs(
            prepared.logits, teacher, wanted, prepared.rows, cache, training.teacher_cache_gb * 1e9, run.accelerator
        )
    else:
        outputs = TeacherOutputs(prepared.logits, teacher, wanted, prepared.rows)
    return DistillationJob(
        objective, prepared.stage, prepared.rows, prepared.dev, prepared.weights, outputs, run.labels, run.accelerator,
        run.plan.task.select_by,
    )  # fmt: skip


def log_stage(run: DistillationRun, prepared: PreparedStage) -> None:
    """Say what a stage trains, and on which rows."""
    rows = prepared.rows
    line = objective_line(prepared.terms, prepared.stage, not rows.labelled.all())
    run.accelerator.print(f"stage {prepared.stage.name}: {line}")
    if table := layer_table(prepared.terms, run.student.config.num_hidden_layers):
        run.accelerator.print(f"teacher layers by student layer:\n{table}")
    log.info("rows: %d (%s), %d with label", len(rows), ", ".join(prepared.stage.rows), rows.labelled.sum())


def warn_if_weak(run: DistillationRun, prepared: PreparedStage, scores: dict[str, float] | None) -> None:
    """Warn of a student that a constant prediction beats, or that ends far below its teacher.

    Args:
        scores: on dev; None without dev rows.
    """
    if scores is None or prepared.dev is None:
        return
    score = scores["score"]
    remedy = (
        "train it longer or at another rate: epochs, min_steps and learning_rate of the stages, or task.epochs_scale"
    )
    constant = baseline(prepared.dev.labels, prepared.dev.domains, run.labels.problem, run.plan.task.select_by)
    if score <= constant:
        log.warning(
            "NOTE: the student's dev score %.4f does not beat a constant prediction (%.4f); %s", score, constant, remedy
        )
    elif run.teacher_score is not None and score < run.teacher_score - FAR_BELOW:
        log.warning(
            "NOTE: the student's dev score %.4f is %.1f points below its teacher's (%.4f); %s",
            score, 100 * (run.teacher_score - score), run.teacher_score, remedy,
        )  # fmt: skip
