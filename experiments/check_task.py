"""Check a task before any long work, and tell a shell script what is in it."""

from __future__ import annotations

import shlex
from collections import defaultdict

from metakd.cli import run
from metakd.config import Task, folder_name
from metakd.data.labels import Labels
from metakd.data.tables import LABELLED, TRAINING, names, read_rows
from metakd.errors import InputError, nearest
from metakd.methods import Method


def main(task: Task, method: Method | None = None, genres: str = "", genre: str = "") -> None:
    """Read all three tables and refuse what is wrong; print the task's paths and domains as shell variables.

    Of the test table only the form is looked at.

    Args:
        task: task file (YAML).
        method: method file (YAML); if given, its terms are checked against teacher and student too.
        genres: domains to distil for, separated by spaces; all of the task's by default.
        genre: one domain, whose name may hold spaces.
    """
    task.require("train", "dev", "test")
    found_labels, found_domains = names(task.train, task.problem)
    labels, domains = Labels(tuple(task.labels or found_labels), task.problem), task.domains or found_domains
    chosen = [genre] if genre else genres.split() or domains
    rows: dict[str, set[str]] = defaultdict(set)
    for path, required in ((task.train, TRAINING), (task.dev, LABELLED), (task.test, LABELLED)):
        for row in read_rows(path, labels, domains, required):
            rows[path].add(row["domain"])
    for name in chosen:
        if name not in domains:
            raise InputError(f"domain {name!r} is not among {domains}{nearest(name, domains)}")
        for path in (task.train, task.dev, task.test):
            if name not in rows[path]:
                raise InputError(f"{path} has no row of domain {name!r}; add some, or distil for other domains")
    if method is not None:
        check_models(task, method, labels)
    print(f"TRAIN={shlex.quote(task.train)}")
    print(f"TEST={shlex.quote(task.test)}")
    print(f"ENCODER={shlex.quote(task.teacher)}")
    print(f"MAX_LENGTH={task.max_length}")
    print(f"DOMAINS=({' '.join(map(shlex.quote, chosen))})")
    print(f"FOLDERS=({' '.join(map(folder_name, chosen))})")


def check_models(task: Task, method: Method, labels: Labels) -> None:
    """Refuse layers, losses and stage names that do not fit, from the models' configurations alone."""
    from metakd.data.encoding import load_tokenizer
    from metakd.models.classifier import load_config
    from metakd.models.students import student_config
    from metakd.objectives.terms import bind
    from metakd.training.students import check_tokenizers

    method.check_stages(task)
    teacher = load_config(task.teacher)
    if isinstance(task.student, str):
        student = load_config(task.student)
        tokenizers = load_tokenizer(task.teacher), load_tokenizer(task.student)
        for stage in method.stages:
            check_tokenizers(stage.name, stage.terms, *tokenizers)
    else:
        student = student_config(task.student, teacher, labels)
    for config, name in ((teacher, task.teacher), (student, str(task.student))):
        positions = getattr(config, "max_position_embeddings", None)
        if positions is not None and task.max_length > positions:
            raise InputError(f"{name} has {positions} positions, task.max_length is {task.max_length}; set it to less")
    for stage in method.stages:
        bind(stage.terms, teacher, student, labels.problem)


if __name__ == "__main__":
    run(main)
