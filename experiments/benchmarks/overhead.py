"""How much of a step the loop costs: `fit` against the same steps without it."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from common import (
    ENCODER,
    MAX_LENGTH,
    Kind,
    empty_folder,
    machine_info,
    time_in_turns,
    write_random_rows,
)
from jobs import LEARNING_RATE, STUDENT

from metakd.cli import run
from metakd.config import Precision, Training
from metakd.cpu.tuning import tuned
from metakd.data.batches import plan_epoch
from metakd.data.encoding import encode
from metakd.data.labels import Labels
from metakd.manifests import write_json
from metakd.methods.stage import Stage, Term
from metakd.models.loading import load_classifier, load_tokenizer
from metakd.models.student_init import cut_student
from metakd.objectives.distillation import DistillationObjective
from metakd.objectives.features import FeatureValues
from metakd.objectives.terms import bind
from metakd.training.jobs import DistillationJob
from metakd.training.loop import fit, learning_rates, parameter_groups
from metakd.training.runtime import start
from metakd.training.teacher_outputs import TeacherOutputs


def main(
    out: Path,
    kind: Kind = "short",
    encoder: str = ENCODER,
    rows: int = 1920,
    rounds: int = 3,
    batch_size: int = 32,
    precision: Precision = "auto",
    work: Path = Path("runs/benchmarks/overhead"),
) -> None:
    """Fine-tune a student of 3 layers for an epoch, with the loop and with bare steps, which get finished batches.

    Args:
        out: JSON file.
        kind: "long" or "short" rows; overhead shows more on short ones.
        encoder: that the student is cut from.
        rows: of random words, as long as real ones.
        rounds: of each measurement; the median counts.
        batch_size: rows per step.
        precision: of both.
        work: folder for the table and checkpoints.
    """
    empty_folder(work)
    write_random_rows(work / "rows.tsv", kind, rows, ("one", "two"))
    labels, training = Labels(("negative", "positive")), Training(batch_size=batch_size, precision=precision)
    accelerator = start(training.precision, training.cpu_tuning)
    encoded = encode(work / "rows.tsv", load_tokenizer(encoder), MAX_LENGTH[kind], labels)
    stage = Stage("label", [Term("label")], 1, LEARNING_RATE, select="last")

    def make_job() -> DistillationJob:
        torch.manual_seed(1)
        student = cut_student(load_classifier(encoder, labels), STUDENT)
        objective = DistillationObjective(student, bind(stage.terms, None, student.config, labels.problem), None, None)
        no_teacher = TeacherOutputs(None, None, [], encoded)
        return DistillationJob(objective, stage, encoded, None, np.ones(rows), no_teacher, labels, accelerator)

    losses: dict[str, list[float]] = {"loop": [], "bare": []}

    def loop() -> float:
        job, folder = make_job(), empty_folder(work / "training")
        begun = time.perf_counter()
        progress = fit(job, accelerator, stage.epochs, stage.learning_rate, training, folder)
        seconds = time.perf_counter() - begun
        losses["loop"].append(float(np.mean(progress.losses)))
        return seconds

    def bare() -> float:
        objective = make_job().objective
        batches = [encoded.batch(chosen) for chosen in plan_epoch(encoded.lengths, batch_size, training.seed, 0)]
        step_losses = []
        begun = time.perf_counter()
        with tuned(objective, accelerator.device, training.cpu_tuning, encoded):
            groups = parameter_groups(objective, training.weight_decay)
            optimizer = torch.optim.AdamW(groups, lr=stage.learning_rate, fused=True)
            schedule = learning_rates(optimizer, "linear", len(batches), training.warmup)
            objective.train()
            for batch in batches:
                with accelerator.autocast():
                    loss = objective(batch, FeatureValues(None))["label"].mean()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(objective.parameters(), training.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                step_losses.append(loss.item())
        seconds = time.perf_counter() - begun
        losses["bare"].append(float(np.mean(step_losses)))
        return seconds

    seconds = time_in_turns({"loop": loop, "bare": bare}, rounds)
    ratio = median(seconds["bare"]) / median(seconds["loop"])
    write_json(out, {"kind": kind, "rows": rows, "batch_size": batch_size, "precision": accelerator.mixed_precision,
                     "seconds": seconds, "mean_loss": losses, "ratio": ratio, "machine": machine_info()})  # fmt: skip
    print(f"mean loss of the epoch: loop {median(losses['loop']):.4f}, bare {median(losses['bare']):.4f}")
    print(f"speed of the loop, bare steps = 1: {ratio:.3f}")


if __name__ == "__main__":
    run(main)
