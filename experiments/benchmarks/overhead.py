"""How much of a step is the loop: `fit` against the same steps written bare."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Literal

from timing import MAX_LENGTH, generated, in_turns, machine, median

from metakd.cli import run
from metakd.manifests import write_json


def main(
    out: Path,
    kind: Literal["long", "short"] = "short",
    encoder: str = "runs/models/all-MiniLM-L6-v2",
    rows: int = 1920,
    rounds: int = 3,
    batch_size: int = 32,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    work: Path = Path("runs/benchmarks/overhead"),
) -> None:
    """Fine-tune a student of 3 layers for an epoch, by the loop and bare; the bare steps get finished batches.

    Args:
        out: JSON file.
        kind: "long" or "short" rows; short ones show overhead more.
        encoder: data_prep/packaged_minilm.py makes the default.
        rows: of random words with the lengths of real ones.
        rounds: whose medians count.
        batch_size: rows a step.
        precision: of both.
        work: folder for table and checkpoints.
    """
    import numpy as np
    import torch

    from metakd.config import StudentFromTeacher, Training
    from metakd.data.batches import plan_epoch
    from metakd.data.encoding import encode, load_tokenizer
    from metakd.data.labels import Labels
    from metakd.methods import Stage, Term
    from metakd.models.classifier import load_classifier
    from metakd.models.students import cut_student
    from metakd.models.views import Need, Views
    from metakd.objectives.distillation import DistillationObjective
    from metakd.objectives.terms import bind
    from metakd.training.loop import fit, parameter_groups, schedule
    from metakd.training.problems import DistillationProblem
    from metakd.training.runtime import start
    from metakd.training.teacher_outputs import TeacherViews
    from metakd.training.tuning import tuned

    work.mkdir(parents=True, exist_ok=True)
    generated(work / "rows.tsv", kind, rows)
    labels, domains = Labels(("negative", "positive")), ["one", "two"]
    accelerator = start(precision)
    encoded = encode(work / "rows.tsv", load_tokenizer(encoder), MAX_LENGTH[kind], labels, domains)
    training = Training(batch_size=batch_size)

    stage = Stage("label", [Term("label")], 1, 5e-5, select="last")

    def problem() -> DistillationProblem:
        torch.manual_seed(1)
        student = cut_student(load_classifier(encoder, labels), StudentFromTeacher(layers=3), labels)
        terms = bind(stage.terms, None, student.config, labels.problem)
        objective, views = DistillationObjective(student, terms, None, None), TeacherViews(None, None, Need())
        return DistillationProblem(objective, stage, encoded, None, np.ones(rows), views, labels, accelerator)

    final: dict[str, list[float]] = {"loop": [], "bare": []}

    def loop() -> float:
        shutil.rmtree(work / "training", ignore_errors=True)
        made = problem()
        begun = time.perf_counter()
        progress = fit(made, accelerator, 1, 5e-5, training, work / "training")
        seconds = time.perf_counter() - begun
        final["loop"].append(float(np.mean(progress.losses)))
        return seconds

    def bare() -> float:
        made = problem()
        plan = plan_epoch(encoded.lengths, batch_size, training.seed, 0)
        batches = [encoded.batch(chosen) for chosen in plan]
        losses = []
        begun = time.perf_counter()
        with tuned(made.objective, encoded, accelerator.device):
            optimizer = torch.optim.AdamW(parameter_groups(made.objective, training.weight_decay), lr=5e-5, fused=True)
            made.objective.train()
            for number, batch in enumerate(batches):
                for group in optimizer.param_groups:
                    group["lr"] = 5e-5 * schedule(number, len(batches), training.warmup)
                with accelerator.autocast():
                    loss = made.objective(batch, Views(None))["label"].mean()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(made.objective.parameters(), training.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.item())
        seconds = time.perf_counter() - begun
        final["bare"].append(float(np.mean(losses)))
        return seconds

    seconds = in_turns({"loop": loop, "bare": bare}, rounds)
    ratio = median(seconds["bare"]) / median(seconds["loop"])
    write_json(out, {"kind": kind, "rows": rows, "batch_size": batch_size, "precision": accelerator.mixed_precision,
                     "seconds": seconds, "mean_loss": final, "ratio": ratio, "machine": machine()})  # fmt: skip
    print(f"mean loss of the epoch: loop {median(final['loop']):.4f}, bare {median(final['bare']):.4f}")
    print(f"speed of the loop / bare: {ratio:.3f}")


if __name__ == "__main__":
    run(main)
