"""Check a translation's task and method files, and print for shell scripts what a run of them needs."""

from __future__ import annotations

import shlex

from metakd.cli import run
from metakd.translation.plan import reads_teacher
from metakd.translation.settings import TranslationMethod, TranslationTask


def main(task: TranslationTask, method: TranslationMethod) -> None:
    """Print TRAIN and TEST (tables), PRECISION, TARGETS_BEAM (of the teacher's translations of TRAIN; empty where the
    method does not learn from them) and READS_TEACHER (1 where the student's training reads the teacher).

    Args:
        task: task file (YAML); any field can be overridden.
        method: method file (YAML).
    """
    task.require("train", "dev", "test")
    print(f"TRAIN={shlex.quote(task.train)} TEST={shlex.quote(task.test)}")
    print(f"PRECISION={task.training.precision}")
    print(f"TARGETS_BEAM={method.beam if method.needs_translations else ''}")
    print(f"READS_TEACHER={1 if reads_teacher(task, method, 'student') else ''}")


if __name__ == "__main__":
    run(main)
