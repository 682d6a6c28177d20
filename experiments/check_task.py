"""Check a task and a method before any long work, and print what a shell script needs to run them."""

from __future__ import annotations

import logging
import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from metakd.cli import run
from metakd.config import Task
from metakd.data.labels import SEPARATOR, Labels, look_alikes, split_label, stratum
from metakd.data.tables import LABELLED, TRAINING, UNLABELLED, read_rows
from metakd.data.task_names import labels_and_domains, require_known_elsewhere
from metakd.errors import InputError, name_list, nearest
from metakd.evaluation.text import shorten
from metakd.methods.method import Method
from metakd.training.plan import RunFolder, hidden_from_teacher

log = logging.getLogger(__name__)
LONE = {"multi_label": SEPARATOR, "regression": "with a number"}  # what is counted where a label names no class
MOST_NAMES = 20  # domains, or classes of a domain, that are printed


def main(
    task: Task,
    method: Method | None = None,
    domains: str = "",
    domain: str = "",
    fraction: float = 1.0,
    exclude_domain: str = "",
    run_folder: Path = Path("runs/task"),
    method_folder: Path | None = None,
    new_domain: bool = False,
) -> None:
    """Read all three tables and refuse what is wrong, then print the plan as shell variables.

    Of the test table only the form is checked.

    Args:
        task: task file (YAML).
        method: method file (YAML); teacher and student are tried with it too.
        domains: domains to distil for, separated by spaces; by default all of the task's.
        domain: one domain, whose name may hold spaces.
        fraction: fraction of the labels of --domain that are visible.
        exclude_domain: domain whose labels are hidden from prototypes and teacher.
        run_folder: folder of the run.
        method_folder: folder of what belongs to this method alone; RUN_FOLDER/METHOD's file name in the shell scripts.
        new_domain: a chosen domain may have no dev and no test rows; its EVALUATIONS is empty without test rows.
    """
    task.require("train", "dev", "test")
    labels, known = labels_and_domains(task)
    labels.require_classes()
    chosen = [domain] if domain else domains.split() or known
    found = check_tables(task, labels, known, chosen, ("train",) if new_domain else ("train", "dev", "test"))
    hidden = hidden_from_teacher(exclude_domain or domain, fraction, bool(exclude_domain))
    hidden.check_domains(known)
    classes = {role: {name: class_names(task, counts) for name, counts in by.items()} for role, by in found.items()}
    if task.own_labels:
        check_own_labels(task, labels, classes, chosen)
        hides = hidden.exclude_domain or (hidden.domain if hidden.fraction == 0 else "")
        if hides in chosen and (method is None or method.teacher.kind != "none"):
            require_known_elsewhere(hides, classes["train"])
        labels = labels.of_domain(chosen[0], classes["train"][chosen[0]])  # of the student that is tried
    else:
        note_own_labels(classes["train"])
    if method is not None:
        check_unlabelled(task, method, known)
        check_models(task, method, labels, known)
    for name, value in {"TRAIN": task.train, "TEST": task.test}.items():
        print(f"{name}={shlex.quote(value)}")
    print_array("DOMAINS", chosen)
    print_array("LABELS", (str(found["train"][name].total() - found["train"][name][""]) for name in chosen))
    if method is not None:
        folder = RunFolder(run_folder, method_folder or run_folder / "method", hidden)
        print_plan(task, method, folder, known, chosen, fraction)
        print_array("EVALUATIONS", (str(folder.evaluation(name)) if name in found["test"] else "" for name in chosen))


def check_tables(
    task: Task, labels: Labels, known: Sequence[str], chosen: Sequence[str], needed: Collection[str]
) -> dict[str, dict[str, Counter[str]]]:
    """Refuse a table with a bad row, or a needed one without rows of a chosen domain.

    Returns: of "train", "dev" and "test" the number of rows by domain and class, "" if they have none.
    """
    for name in chosen:
        if name not in known:
            raise InputError(
                f"domain {name!r} is not among {name_list(known)}{nearest(name, known)}; "
                f"put at least one row of a new one, with or without label, into {task.train}"
            )
    found: dict[str, dict[str, Counter[str]]] = {role: defaultdict(Counter) for role in ("train", "dev", "test")}
    for role, by_domain in found.items():
        path = getattr(task, role)
        for row in read_rows(path, labels, known, TRAINING if role == "train" else LABELLED):
            label = row["label"]
            by_domain[row["domain"]][label and (stratum(label, labels.problem) or LONE[labels.problem])] += 1
        for name in chosen:
            if name not in by_domain and role in needed:
                raise InputError(f"{path} has no row of domain {name!r}; add some, or distil for other domains")
            if name not in by_domain:
                log.warning("NOTE: %s has no row of domain %r", path, name)
        log.info("%s", counts_text(path, by_domain))
    for names in (*look_alikes(labels.names), *look_alikes(known)):
        log.warning("%s look alike; if they are one, write them in one way", name_list(names))
    return found


def check_own_labels(
    task: Task, labels: Labels, classes: dict[str, dict[str, set[str]]], chosen: Sequence[str]
) -> None:
    """Refuse classes of a chosen domain that its student could not know.

    Args:
        labels: the task's.
        classes: of "train", "dev" and "test" by domain.
    """
    for name in chosen:
        known = classes["train"][name]
        labels.of_domain(name, known).require_classes()
        for role in ("dev", "test"):
            if lacking := sorted(classes[role].get(name, set()) - known):
                raise InputError(
                    f"{getattr(task, role)}: domain {name!r} has the classes {name_list(lacking)}, of which "
                    f"{task.train} has no row in this domain; add one, or take them out"
                )


def note_own_labels(classes: dict[str, set[str]]) -> None:
    """Say so where each domain seems to have classes of its own.

    Args:
        classes: of the training table by domain.
    """
    labelled = [names for names in classes.values() if names]
    several = len(labelled) > 1 and all(len(names) > 1 for names in labelled)
    if several and sum(map(len, labelled)) == len(set().union(*labelled)):
        log.warning(
            "NOTE: no class occurs in two domains; if each has its own, set task.own_labels: true, and a student "
            "answers with its domain's classes alone"
        )


def class_names(task: Task, counts: Counter[str]) -> set[str]:
    """The single classes in the keys of a domain's counts."""
    return {name for key in counts if key for name in split_label(key, task.problem)}


def check_unlabelled(task: Task, method: Method, known: Sequence[str]) -> None:
    """Refuse a bad row of the unlabelled table, if the method shows it, and say how many are of the task's domains."""
    if not task.unlabelled or not any({"unlabelled", "extra"} & set(stage.rows) for stage in method.stages):
        return
    task.require("unlabelled")
    of_task = Counter(row["domain"] in known for row in read_rows(task.unlabelled, required=UNLABELLED))
    log.info("%s: %d rows of the task's domains, %d others", task.unlabelled, of_task[True], of_task[False])


def counts_text(path: str, by_domain: dict[str, Counter[str]]) -> str:
    """Rows per domain and class, so that a person sees what a table holds; of many domains, the extremes."""
    names = sorted(by_domain, key=lambda name: by_domain[name].total())
    if len(names) > MOST_NAMES:
        names = names[: MOST_NAMES // 2] + names[-MOST_NAMES // 2 :]
    lines = [f"  {shorten(name, 40)}: {class_counts(by_domain[name])}" for name in names]
    lines += [f"  and {len(by_domain) - len(names)} domains of sizes between these"] * (len(names) < len(by_domain))
    total = sum(counts.total() for counts in by_domain.values())
    return "\n".join([f"{path}: {total} rows", *lines])


def class_counts(counts: Counter[str]) -> str:
    """E.g. "450 negative, 450 positive"; of many classes only their number and sizes."""
    if len(counts) > MOST_NAMES:
        return f"{len(counts)} classes of {min(counts.values())} to {max(counts.values())} rows"
    return ", ".join(f"{count} {shorten(name or 'no label', 40)}" for name, count in sorted(counts.items()))


def check_models(task: Task, method: Method, labels: Labels, domains: Sequence[str]) -> None:
    """Refuse layers, losses, lengths and model families that do not fit, in a dry run of the models."""
    from metakd.training.bound_models import try_method

    method.check_task(task)
    method.check_student(task)
    if not method.trains_classifier:
        raise InputError(
            "this method trains an encoder and no classifier; make the encoder with experiments/distill.py, then start "
            "other students from its folder: --task.student FOLDER"
        )
    try_method(task, method, labels, domains)


def print_plan(
    task: Task, method: Method, folder: RunFolder, domains: Sequence[str], chosen: Sequence[str], fraction: float
) -> None:
    """Print where each step's output lies: embeddings, weighted table, teachers and students."""
    weighted = folder.weighted_table(method.prototypes) if method.prototypes else None
    print(f"EMBEDDINGS={shlex.quote(str(folder.embeddings)) if weighted else ''}")
    print(f"TABLE={shlex.quote(str(weighted or task.train))}")
    print_array("HIDDEN", folder.hidden.options())
    teachers = folder.teachers(task, method, domains)
    if method.teacher.kind == "single":  # only those that the chosen students learn from
        teachers = [(path, selection) for path, selection in teachers if selection.domain in chosen]
    print_array("TEACHERS", (str(path) for path, _ in teachers))
    print_array("TEACHER_OPTIONS", (shlex.join(selection.options()) for _, selection in teachers))
    students = [folder.student(task, method, name, fraction) for name in chosen]
    print_array("STUDENTS", (str(path) for path, _ in students))
    print_array("STUDENT_OPTIONS", (shlex.join(selection.options()) for _, selection in students))
    lists = [folder.teachers_of(task, method, domains, name) for name in chosen]
    print_array("TEACHERS_OF", (teacher_option(paths) for paths in lists))


def teacher_option(paths: Sequence[Path]) -> str:
    """The value of distill.py's --teacher: a folder, or a list of folders."""
    return str(paths[0]) if len(paths) == 1 else f"[{', '.join(map(str, paths))}]" if paths else ""


def print_array(name: str, values: Iterable[str]) -> None:
    print(f"{name}=({' '.join(map(shlex.quote, values))})")


if __name__ == "__main__":
    run(main)
