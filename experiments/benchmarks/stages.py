"""Rows per second of teacher training, both stages and a whole run, against what people use today."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from common import (
    ENCODER,
    INSTALL,
    MAX_LENGTH,
    Kind,
    Precision,
    empty_folder,
    machine_info,
    time_in_turns,
    write_random_rows,
)
from tabulate import tabulate

from metakd.cli import run
from metakd.errors import InputError
from metakd.manifests import write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def main(
    out: Path,
    kind: Kind = "long",
    encoder: str = ENCODER,
    table: Path | None = None,
    domain: str = "",
    rows: int = 320,
    whole_rows: int = 160,
    whole_epochs: int = 10,
    rounds: int = 3,
    batch_size: int = 32,
    precision: Precision = "auto",
    work: Path = Path("runs/benchmarks"),
) -> None:
    """Time metakd, TextBrewer and the EasyNLP loop in turns, on the same rows and models.

    A stage is timed for one epoch. What metakd computes once before an epoch counts in the whole run only. Students
    have 3 layers.

    Args:
        out: JSON file.
        kind: "long" rows (cut to 128 tokens) or "short" ones (64).
        encoder: that the teacher starts from.
        table: labelled table of the task; by default random words, in rows as long as real ones.
        domain: whose rows of the table are used; all by default.
        rows: of an epoch.
        whole_rows: of the whole run.
        whole_epochs: of each of its two stages.
        rounds: of each measurement; the median counts.
        batch_size: rows per step.
        precision: of metakd; the others compute in fp32.
        work: folder for models and caches.
    """
    try:
        import textbrewer as _  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error}; {INSTALL}") from None
    import numpy as np
    from baselines import easynlp_stage, easynlp_teacher, padded_rows, textbrewer_stage, train_student
    from jobs import MetakdJobs, make_method, make_task, stage_losses

    from metakd.config import Training
    from metakd.data.encoding import encode, load_tokenizer
    from metakd.data.tables import read_rows, write_rows
    from metakd.models.classifier import load_classifier

    work = empty_folder(work / kind)
    if table is None:
        table = work / "source.tsv"
        write_random_rows(table, kind, max(rows, whole_rows))
    chosen = [row for row in read_rows(table) if not domain or row["domain"] == domain]
    chosen = [chosen[i] for i in np.random.default_rng(0).permutation(len(chosen))[:rows]]
    epoch_table, whole_table = work / "train.tsv", work / "few.tsv"
    write_rows(epoch_table, chosen)
    write_rows(whole_table, chosen[:whole_rows])

    training, method = Training(batch_size=batch_size, precision=precision), make_method(whole_epochs)
    metakd = MetakdJobs(work, make_task(epoch_table, encoder, MAX_LENGTH[kind], training), method)
    tokenizer, labels = load_tokenizer(encoder), metakd.labels
    epoch_rows, few_rows = (
        encode(path, tokenizer, MAX_LENGTH[kind], labels, metakd.domains) for path in (epoch_table, whole_table)
    )
    padded, padded_few = (padded_rows(part, MAX_LENGTH[kind]) for part in (epoch_rows, few_rows))
    libraries = {"TextBrewer": textbrewer_stage, "EasyNLP loop": easynlp_stage}
    losses: dict[str, list[dict[str, float]]] = {name: [] for name in ("metakd", *libraries)}

    def record_losses(name: str, student: PreTrainedModel) -> None:
        losses[name].append(stage_losses(student, load_classifier(str(metakd.teacher), labels), few_rows, method.stages))

    def metakd_whole_run() -> float:
        seconds, student = metakd.train_student(whole_table)
        record_losses("metakd", student)
        return seconds

    def stage_by(name: str, number: int) -> float:
        stages = [method.stages[number]]
        return train_student(libraries[name], metakd.teacher, labels, padded, stages, 1, training)[0]

    def whole_run_by(name: str) -> float:
        seconds, student = train_student(
            libraries[name], metakd.teacher, labels, padded_few, method.stages, whole_epochs, training
        )
        record_losses(name, student)
        return seconds

    labelled = padded_rows(epoch_rows, MAX_LENGTH[kind], with_labels=True)
    measurements = {
        "teacher training": {
            "metakd": metakd.train_teacher,
            "EasyNLP loop": partial(easynlp_teacher, encoder, labels, labelled, training),
        },
        "stage 1": {"metakd": partial(metakd.train_stage, 0), **{n: partial(stage_by, n, 0) for n in libraries}},
        "stage 2": {"metakd": partial(metakd.train_stage, 1), **{n: partial(stage_by, n, 1) for n in libraries}},
        "whole run": {"metakd": metakd_whole_run, **{name: partial(whole_run_by, name) for name in libraries}},
    }
    seconds = {}
    for part, jobs in measurements.items():
        print(part)
        seconds[part] = time_in_turns(jobs, rounds)

    counts = dict.fromkeys(measurements, len(epoch_rows)) | {"whole run": 2 * whole_epochs * len(few_rows)}
    speeds = {part: {n: counts[part] / median(s) for n, s in by_name.items()} for part, by_name in seconds.items()}
    medians = {
        name: {stage.name: median(record[stage.name] for record in records) for stage in method.stages}
        for name, records in losses.items()
    }
    settings = {"kind": kind, "rows": len(epoch_rows), "whole_rows": whole_rows, "whole_epochs": whole_epochs,
                "batch_size": batch_size, "rounds": rounds, "table": str(table), "domain": domain,
                "mean_tokens": float(epoch_rows.lengths.mean()),
                "precision": metakd.accelerator.mixed_precision}  # fmt: skip
    write_json(
        out, {**settings, "rows_per_second": speeds, "losses": medians, "seconds": seconds, "machine": machine_info()}
    )
    print(tabulate([{"rows/s in": part, **by_name} for part, by_name in speeds.items()], "keys", floatfmt=".1f"))
    print(tabulate([{"losses in the end": n, **by_stage} for n, by_stage in medians.items()], "keys", floatfmt=".4f"))


if __name__ == "__main__":
    run(main)
