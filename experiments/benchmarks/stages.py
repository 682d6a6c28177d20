"""Rows per second of teacher training, both stages and a whole run, against what people use today."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from baselines import BaselineJobs, easynlp_stage, easynlp_teacher, padded_rows, textbrewer_stage
from common import (
    ENCODER,
    INSTALL,
    MAX_LENGTH,
    Kind,
    empty_folder,
    machine_info,
    time_in_turns,
    write_random_rows,
)
from jobs import MetakdJobs, make_method, make_task, stage_losses
from tabulate import tabulate

from metakd.cli import run
from metakd.config import Precision, Training
from metakd.data.encoding import encode
from metakd.data.tables import read_rows, write_rows
from metakd.errors import InputError
from metakd.manifests import write_json
from metakd.models.loading import load_classifier, load_tokenizer


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
    work = empty_folder(work / kind)
    if table is None:
        table = work / "source.tsv"
        write_random_rows(table, kind, max(rows, whole_rows))
    epoch_table, whole_table = work / "train.tsv", work / "few.tsv"
    write_samples(table, domain, {epoch_table: rows, whole_table: whole_rows})
    training = Training(batch_size=batch_size, precision=precision)
    method, length = make_method(whole_epochs), MAX_LENGTH[kind]
    metakd = MetakdJobs(work, make_task(epoch_table, encoder, length, training), method, whole_table)
    tokenizer, labels = load_tokenizer(encoder), metakd.labels
    epoch_rows, few_rows = (encode(path, tokenizer, length, labels) for path in (epoch_table, whole_table))
    padded, padded_few = padded_rows(epoch_rows, length), padded_rows(few_rows, length)
    libraries: dict[str, MetakdJobs | BaselineJobs] = {"metakd": metakd}
    for name, train_stage in {"TextBrewer": textbrewer_stage, "EasyNLP loop": easynlp_stage}.items():
        libraries[name] = BaselineJobs(train_stage, metakd.teacher, labels, method, training, padded, padded_few)
    losses: dict[str, list[dict[str, float]]] = {name: [] for name in libraries}

    def whole_run(name: str) -> float:
        seconds, student = libraries[name].train_student()
        teacher = load_classifier(str(metakd.teacher), labels)
        losses[name].append(stage_losses(student, teacher, few_rows, method.stages))
        return seconds

    measurements: dict[str, dict[str, Callable[[], float]]] = {
        "teacher training": {
            "metakd": metakd.train_teacher,
            "EasyNLP loop": partial(easynlp_teacher, encoder, labels, padded_rows(epoch_rows, length, True), training),
        },
        "stage 1": {name: partial(jobs.train_stage, 0) for name, jobs in libraries.items()},
        "stage 2": {name: partial(jobs.train_stage, 1) for name, jobs in libraries.items()},
        "whole run": {name: partial(whole_run, name) for name in libraries},
    }
    seconds = {}
    for part, jobs in measurements.items():
        print(part)
        seconds[part] = time_in_turns(jobs, rounds)

    counts = dict.fromkeys(measurements, len(epoch_rows)) | {"whole run": 2 * whole_epochs * len(few_rows)}
    speeds = {part: {n: counts[part] / median(s) for n, s in by_name.items()} for part, by_name in seconds.items()}
    final_losses = {
        name: {stage.name: median(by_stage[stage.name] for by_stage in by_round) for stage in method.stages}
        for name, by_round in losses.items()
    }
    settings = {"kind": kind, "rows": len(epoch_rows), "whole_rows": len(few_rows), "whole_epochs": whole_epochs,
                "batch_size": batch_size, "rounds": rounds, "table": str(table), "domain": domain,
                "mean_tokens": float(epoch_rows.lengths.mean()),
                "precision": metakd.accelerator.mixed_precision}  # fmt: skip
    results = {"rows_per_second": speeds, "losses": final_losses, "seconds": seconds, "machine": machine_info()}
    write_json(out, {**settings, **results})
    lines = [[part, *map(by_name.get, libraries)] for part, by_name in speeds.items()]
    print(tabulate(lines, ["rows/s in", *libraries], floatfmt=".1f"))
    print(tabulate([{"final loss": n, **by_stage} for n, by_stage in final_losses.items()], "keys", floatfmt=".4f"))


def write_samples(table: Path, domain: str, counts: dict[Path, int]) -> None:
    """Write so many rows of a table, in one random order, to each path.

    Args:
        domain: whose rows are used; "" for all.
    """
    rows = [row for row in read_rows(table) if not domain or row["domain"] == domain]
    order = np.random.default_rng(0).permutation(len(rows))
    for path, count in counts.items():
        write_rows(path, (rows[i] for i in order[:count]))


if __name__ == "__main__":
    run(main)
