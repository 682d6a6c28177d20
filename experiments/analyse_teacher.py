"""Write what a trained teacher does with its training rows; study_report.py shows it in pictures."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from metakd.cli import run
from metakd.config import Task
from metakd.errors import InputError
from metakd.steps import Step


def main(task: Task, teacher: Path, embeddings: Path, out: Path, most_rows: int = 5000, remake: bool = False) -> None:
    """Write a teacher's probabilities, row weights and 2-D projections of its training rows; never their texts.

    For study_report.py the file belongs into the folder `analyses` of the study.

    Args:
        task: task file (YAML); --task.train must name the table that the teacher was trained on, with
            prototype weights.
        teacher: folder of the teacher.
        embeddings: folder made from the same table by extract_embeddings.py.
        out: file that ends in .json.gz.
        most_rows: of a longer table, this many rows are drawn at random.
        remake: make the file anew if other code made it.
    """
    if not out.name.endswith(".json.gz"):
        raise InputError(f"--out {out}: the file is compressed JSON; let its name end in .json.gz")
    task.require("train")
    inputs: dict[str, str | Path] = {"train": task.train, "teacher": teacher, "embeddings": embeddings}
    settings = {"max_length": task.max_length, "seed": task.training.seed, "most_rows": most_rows}
    step = Step(out, settings, inputs, {"task": task}, file=True, remake=remake)
    if step.finished():
        return
    from metakd.data.task_names import labels_and_domains
    from metakd.training.runtime import start
    from metakd.training.teacher_analysis import analyse_teacher

    labels, domains = labels_and_domains(task)
    accelerator = start("fp32", task.training.cpu_tuning)  # the same numbers on every machine
    analysis = analyse_teacher(task, str(teacher), embeddings, labels, domains, most_rows, accelerator)
    analysis["seed"] = task.training.seed
    with step.workspace() as file:
        if file is not None:
            file.write_bytes(gzip.compress(json.dumps(analysis, separators=(",", ":")).encode(), mtime=0))
    print(f"{len(analysis['rows']['guid'])} of {analysis['table_rows']} rows -> {out}")


if __name__ == "__main__":
    run(main)
