"""Check a task before any long work, and tell a shell script what is in it."""

from __future__ import annotations

import shlex

from metakd.cli import run
from metakd.config import Task
from metakd.data.tables import names, read_rows
from metakd.errors import InputError, nearest


def main(task: Task, domains: list[str] | None = None) -> None:
    """Read all three tables and refuse what is wrong; print the task's paths and domains as shell variables.

    Of the test table only the form is looked at.

    Args:
        task: task file (YAML).
        domains: some of the task's domains, to distil for; all by default.
    """
    task.require("train", "dev", "test")
    found_labels, found_domains = names(task.train)
    labels, all_domains = task.labels or found_labels, task.domains or found_domains
    for path in (task.train, task.dev, task.test):
        for _ in read_rows(path, labels, all_domains):
            pass
    for name in domains or ():
        if name not in all_domains:
            raise InputError(f"--domains: {name!r} is not among {all_domains}{nearest(name, all_domains)}")
    print(f"TRAIN={shlex.quote(task.train)}")
    print(f"TEST={shlex.quote(task.test)}")
    print(f"ENCODER={shlex.quote(task.teacher)}")
    print(f"MAX_LENGTH={task.max_length}")
    print(f"DOMAINS=({' '.join(map(shlex.quote, domains or all_domains))})")


if __name__ == "__main__":
    run(main)
