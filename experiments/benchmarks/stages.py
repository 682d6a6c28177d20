"""Rows a second of teacher training, both stages and a whole run, against what people use today."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from contestants import TEMPERATURE, fixed_rows, labelled, released, released_teacher, stage_loss, textbrewer
from timing import MAX_LENGTH, generated, in_turns, machine, median

from metakd.cli import run
from metakd.errors import InputError
from metakd.manifests import write_json


def main(
    out: Path,
    kind: Literal["long", "short"] = "long",
    encoder: str = "runs/models/all-MiniLM-L6-v2",
    table: Path | None = None,
    domain: str = "",
    rows: int = 320,
    whole_rows: int = 96,
    whole_epochs: int = 10,
    rounds: int = 3,
    batch_size: int = 32,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    work: Path = Path("runs/benchmarks"),
) -> None:
    """Time metakd, TextBrewer and the released loop's computation in turns on the same rows and models.

    TextBrewer is installed beside the environment, as tests/references/requirements.txt says. A stage's rows a second
    are those of an epoch; what metakd computes once beforehand is counted in the whole run.

    Args:
        out: JSON file.
        kind: "long" rows (cut to 128 tokens) or "short" ones (64).
        encoder: that the teacher starts from; data_prep/packaged_minilm.py makes the default.
        table: labelled table of the task; by default rows of random words with the lengths of real ones.
        domain: whose rows of the table are used.
        rows: of an epoch.
        whole_rows: of the whole run of two stages.
        whole_epochs: of each of its stages.
        rounds: of each measurement, whose median counts.
        batch_size: rows a step, for all.
        precision: of metakd; the others compute in fp32.
        work: folder for models and caches.
    """
    try:
        import textbrewer as _  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error}; install TextBrewer as tests/references/requirements.txt says") from None
    import numpy as np

    from metakd.config import MetaTeacher, StudentFromTeacher, Task, Training
    from metakd.data.encoding import EncodedRows, load_tokenizer
    from metakd.data.labels import Labels
    from metakd.data.tables import names, read_rows, write_rows
    from metakd.methods import Method, Stage, Term
    from metakd.models.classifier import load_classifier
    from metakd.models.folders import ModelInfo, save_model
    from metakd.models.students import cut_student
    from metakd.training.distillation import Run, prepare
    from metakd.training.loop import fit
    from metakd.training.problems import MetaTeacherProblem
    from metakd.training.runtime import start
    from metakd.training.sources import Target

    work = work / kind
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    source = work / "source.tsv"
    if table is None:
        generated(source, kind, max(rows, whole_rows), ("one",))
    chosen = [row for row in read_rows(table or source) if not domain or row["domain"] == domain]
    generator = np.random.default_rng(0)
    chosen = [chosen[i] for i in generator.permutation(len(chosen))[:rows]]
    write_rows(work / "train.tsv", chosen)
    write_rows(work / "few.tsv", chosen[:whole_rows])
    found, domains = names(work / "train.tsv")
    labels, length = Labels(tuple(found)), MAX_LENGTH[kind]
    accelerator = start(precision)
    # The same terms for all: TextBrewer can be given attention probabilities alone.
    inner = Stage("intermediate", [Term("embedding", "mse"), Term("hidden", "mse"), Term("attention_probabilities", "mse")],
                  whole_epochs, 5e-5, select="last")  # fmt: skip
    soft = Term("logits", "soft_cross_entropy", temperature=TEMPERATURE)
    last = Stage("prediction", [soft], whole_epochs, 5e-5, select="last")
    spec = StudentFromTeacher(layers=3)
    training = Training(batch_size=batch_size, precision=precision)

    def task(name: str) -> Task:
        path = str(work / name)
        return Task(path, path, path, encoder, spec, labels=found, max_length=length, training=training)

    def prepared(name: str) -> Run:
        target, stages = Target(labels, domains, domains[0]), [inner, last]
        return prepare(
            task(name), Method(stages), stages, target, [str(work / "teacher")], None, work / "b", accelerator
        )

    def encoded(name: str) -> EncodedRows:
        from metakd.data.encoding import encode

        return encode(work / name, load_tokenizer(encoder), length, labels, domains)

    every, few = encoded("train.tsv"), encoded("few.tsv")
    fixed, fixed_few = fixed_rows(every, length), fixed_rows(few, length)

    def ours_teacher() -> float:
        model = load_classifier(encoder, labels)
        settings = MetaTeacher(row_weight="uniform", domain_loss_weight=0)
        problem = MetaTeacherProblem(
            model, None, every, every.select(np.arange(2)), domains, settings, labels, accelerator
        )
        begun = time.perf_counter()
        shutil.rmtree(work / "training-teacher", ignore_errors=True)
        fit(problem, accelerator, 1, 5e-5, training, work / "training-teacher")
        seconds = time.perf_counter() - begun
        shutil.rmtree(work / "teacher", ignore_errors=True)
        (work / "teacher").mkdir()
        save_model(work / "teacher", model, load_tokenizer(encoder), ModelInfo(domains, length), {})
        return seconds

    def theirs_teacher() -> float:
        model = load_classifier(encoder, labels)
        begun = time.perf_counter()
        released_teacher(model, labelled(fixed, every.labels), 5e-5, 1, batch_size, 1)
        return time.perf_counter() - begun

    losses: dict[str, dict[str, list[float]]] = {}

    def ours_stage(stage: Stage) -> float:
        made = prepared("train.tsv")
        problem = made.problem(stage, 2, work / "cache")
        shutil.rmtree(work / "training", ignore_errors=True)
        begun = time.perf_counter()
        fit(problem, accelerator, 1, stage.learning_rate, training, work / "training")
        return time.perf_counter() - begun

    def ours_whole() -> float:
        shutil.rmtree(work / "teacher.logits", ignore_errors=True)
        shutil.rmtree(work / "whole", ignore_errors=True)
        begun = time.perf_counter()
        made = prepared("few.tsv")
        made.train(work / "whole")
        seconds = time.perf_counter() - begun
        keep("metakd", made.student)
        return seconds

    def keep(name: str, student: Any) -> None:
        """Both stages' losses of a student, by the same function for all: fp32, without dropout."""
        for stage in (inner, last):
            value = stage_loss(student, load_classifier(str(work / "teacher"), labels), few, stage)
            losses.setdefault(name, {}).setdefault(stage.name, []).append(value)

    def theirs(name: str, by: Callable[..., None], stages: list[Stage], data: list[Any], epochs: int) -> float:
        teacher = load_classifier(str(work / "teacher"), labels)
        student = cut_student(teacher, spec, labels)
        begun = time.perf_counter()
        for stage in stages:
            by(student, teacher, data, stage, epochs, batch_size, 1)
        seconds = time.perf_counter() - begun
        if len(stages) > 1:
            keep(name, student)
        return seconds

    others: dict[str, Callable[..., None]] = {"TextBrewer": textbrewer, "released loop": released}
    measured: dict[str, dict[str, list[float]]] = {}
    print("teacher training")
    measured["teacher"] = in_turns({"metakd": ours_teacher, "released loop": theirs_teacher}, rounds)
    for title, stage in (("stage 1", inner), ("stage 2", last)):
        print(title)
        turns: dict[str, Callable[[], float]] = {"metakd": lambda stage=stage: ours_stage(stage)}  # type: ignore[misc]
        for name, by in others.items():
            turns[name] = lambda name=name, by=by, stage=stage: theirs(name, by, [stage], fixed, 1)  # type: ignore[misc]
        measured[title] = in_turns(turns, rounds)
    print("whole run")
    turns = {"metakd": ours_whole}
    for name, by in others.items():
        turns[name] = lambda name=name, by=by: theirs(name, by, [inner, last], fixed_few, whole_epochs)  # type: ignore[misc]
    measured["whole run"] = in_turns(turns, rounds)

    counts = {"whole run": 2 * whole_epochs * len(few)}
    result = {
        "kind": kind, "rows": len(every), "whole_rows": len(few), "whole_epochs": whole_epochs, "batch_size": batch_size,
        "mean_tokens": float(every.lengths.mean()), "generated": table is None, "rounds": rounds,
        "precision": accelerator.mixed_precision, "machine": machine(), "seconds": measured, "losses": losses,
        "rows_per_second": {
            part: {name: counts.get(part, len(every)) / median(times) for name, times in by_name.items()}
            for part, by_name in measured.items()
        },
    }  # fmt: skip
    write_json(out, result)
    for part, speeds in result["rows_per_second"].items():  # type: ignore[attr-defined]
        shown = "  ".join(f"{n} {v:.1f} rows/s (metakd x{speeds['metakd'] / v:.1f})" for n, v in speeds.items())
        print(f"{part}: {shown}")
    for name, values in losses.items():
        print(f"losses after the whole run, {name}: { ({k: round(median(v), 4) for k, v in values.items()}) }")


if __name__ == "__main__":
    run(main)
