"""From evaluation files to reports: every number is computed from them, none is typed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from metakd.errors import InputError
from metakd.evaluation.document import Block, Table, titled_list
from metakd.evaluation.lineage import Step, code_blocks, read_published
from metakd.manifests import find_manifest, read_json

# The scores that tables show, in this order, where an evaluation has them.
METRICS = {
    "accuracy": "accuracy", "micro_f1": "micro-F1", "spearman": "Spearman", "macro_f1": "macro-F1", "bleu": "BLEU",
}  # fmt: skip


@dataclass(frozen=True)
class EvaluatedStudent:
    """A student's evaluation, and how it was trained.

    Args:
        path: the evaluation file.
        evaluation: its content, with the scores of the student ("model") and, if it has one teacher, of the teacher
            on the same rows.
        manifest: of the step that trained the student.
    """

    path: Path
    evaluation: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def method(self) -> str:
        """Name of the method that trained the student; the evaluation file's name if the manifest has none."""
        return self.manifest["resolved"].get("method_name") or self.path.stem

    @property
    def seed(self) -> int:
        return self.manifest["resolved"]["task"]["training"]["seed"]


def read_students(paths: Sequence[Path]) -> list[EvaluatedStudent]:
    """The students in these evaluation files.

    Raises:
        InputError: a file is missing, a student's training is unknown, or the evaluations are of different problem
            types.
    """
    students = [_read_student(path) for path in paths]
    first = students[0]
    for student in students:
        if shown_metrics(student.evaluation) != shown_metrics(first.evaluation):
            raise InputError(
                f"{first.path} and {student.path} are evaluations of different problem types; report on each by itself"
            )
    return students


def _read_student(path: Path) -> EvaluatedStudent:
    if not path.is_file():
        raise InputError(f"{path}: no such file; evaluate the student first")
    evaluation = read_published(path)
    if not is_evaluation(evaluation):
        raise InputError(f"{path} is not an evaluation of a model, or one of another version; evaluate the model again")
    folder = Path(evaluation["model"]["path"])
    manifest_path = find_manifest(folder)
    manifest = read_json(manifest_path) if manifest_path is not None else {}
    try:
        seed, versions = manifest["resolved"]["task"]["training"]["seed"], manifest["versions"]
        known = isinstance(seed, int) and isinstance(versions, dict)
    except (KeyError, TypeError):
        known = False
    if not known:
        raise InputError(f"{path}: no manifest of {folder} says how the student was trained; distil the student again")
    return EvaluatedStudent(path, evaluation, manifest)


def is_evaluation(evaluation: dict[str, Any]) -> bool:
    """Whether a record has what reports read."""
    scored = [evaluation.get("model"), evaluation.get("teacher", evaluation.get("model"))]
    named = all(isinstance(evaluation.get(name), str) for name in ("table", "domain"))
    return named and all(isinstance(scores, dict) and has_scores(scores) for scores in scored)


def has_scores(scores: dict[str, Any]) -> bool:
    """Whether a model's scores are whole."""
    shown = [scores[name] for name in METRICS if name in scores]
    interval, notes = scores.get("accuracy_95", []), scores.get("notes", [])
    if not (isinstance(scores.get("path"), str) and isinstance(notes, list) and isinstance(interval, list) and shown):
        return False
    whole = "accuracy" not in scores or len(interval) == 2
    return whole and all(isinstance(number, float) and math.isfinite(number) for number in (*shown, *interval))


def shown_metrics(evaluation: dict[str, Any]) -> list[str]:
    """Names of the scores that tables show of an evaluation, the headline score first."""
    return [name for name in METRICS if name in evaluation["model"]]


def summarise(students: Sequence[EvaluatedStudent], steps: list[Step]) -> dict[str, Any]:
    """The results of one run: settings, an evaluation per domain, means over the domains, and the steps."""
    evaluations = [student.evaluation for student in students]
    manifest = students[0].manifest
    means = {
        f"{role}_{metric}": sum(evaluation[role][metric] for evaluation in evaluations) / len(evaluations)
        for role in roles(evaluations)
        for metric in shown_metrics(evaluations[0])
    }
    return {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": {"resolved": manifest["resolved"], "versions": manifest["versions"]},
        "methods": sorted({student.method for student in students}),
        "seeds": sorted({student.seed for student in students}),
        "mean_over_domains": means,
        "domains": evaluations,
        "steps": steps,
    }


def results_blocks(results: dict[str, Any]) -> list[Block]:
    """The report on one run, from what `summarise` returns."""
    evaluations = results["domains"]
    starts = [(domain_name(evaluation), evaluation["model"].get("starts_from", "")) for evaluation in evaluations]
    notes = [note for evaluation in evaluations for note in named_notes(domain_name(evaluation), evaluation)]
    about = f"Method {', '.join(results['methods'])}, {seed_text(results['seeds'])}, {results['made'][:10]}."
    return [
        f"{about} {scores_text(evaluations[0])}",
        domains_table(results),
        *titled_list("The students start from:", starts),
        *titled_list("Notes:", notes),
        *code_blocks(results["steps"]),
        steps_table(results["steps"]),
    ]


def domains_table(results: dict[str, Any]) -> Table:
    """Scores of teacher and student by domain, and their means."""
    evaluations, means = results["domains"], results["mean_over_domains"]
    metrics, with_teacher = shown_metrics(evaluations[0]), "teacher" in roles(evaluations)
    columns = [(metric, role) for metric in metrics for role in roles(evaluations)]
    majority = ["majority"] if all("majority" in evaluation["model"] for evaluation in evaluations) else []
    headers = ["domain", "test rows", *majority]
    headers += [f"{'student' if role == 'model' else role} {METRICS[metric]}" for metric, role in columns]
    headers += ["agreement"] * with_teacher + ["parameters", "size"]
    rows = []
    for evaluation in evaluations:
        models = [evaluation[role] for role in roles(evaluations)]
        rows.append([
            domain_name(evaluation),
            str(evaluation["model"]["rows"]),
            *(percent(evaluation["model"][name]) for name in majority),
            *(score_text(evaluation[role], metric) for metric, role in columns),
            *([percent(evaluation["agreement"])] if with_teacher else []),
            " to ".join(f"{model['parameters'] / 1e6:.1f}" for model in models) + " M",
            " to ".join(f"{model['size_bytes'] / 1e6:.0f}" for model in models) + " MB",
        ])  # fmt: skip
    mean_scores = [percent(means[f"{role}_{metric}"]) for metric, role in columns]
    rows.append(["mean", "", *("" for _ in majority), *mean_scores, *[""] * with_teacher, "", ""])
    return Table(headers, rows)


def roles(evaluations: Sequence[dict[str, Any]]) -> list[str]:
    """The models that all evaluations have scores of: the teacher if there is one, and the student ("model")."""
    with_teacher = all("teacher" in evaluation for evaluation in evaluations)
    return ["teacher", "model"] if with_teacher else ["model"]


def steps_table(steps: Sequence[Step]) -> Table:
    """Seconds and peak memory (of the main process) of each step."""
    rows = [[step["name"], f"{step['seconds']:.0f}", str(step["peak_memory_mb"])] for step in steps]
    return Table(["step", "seconds", "peak memory, MB"], rows)


def methods_blocks(students: Sequence[EvaluatedStudent], steps: list[Step]) -> list[Block]:
    """The report on students of one domain, each distilled by another method.

    Raises:
        InputError: the evaluations are of different tables or domains.
    """
    first = students[0]
    for student in students:
        for field in ("table", "domain"):
            if student.evaluation[field] != first.evaluation[field]:
                raise InputError(
                    f"{first.path} and {student.path} evaluate different rows: {field} is "
                    f"{first.evaluation[field]!r} and {student.evaluation[field]!r}"
                )
    notes = [note for student in students for note in named_notes(student.method, student.evaluation)]
    about = (
        f"Domain {domain_name(first.evaluation)}, {first.evaluation['model']['rows']} test rows, "
        f"{seed_text(sorted({student.seed for student in students}))}."
    )
    return [
        f"{about} {scores_text(first.evaluation)} Seconds are those of the student's own run, without the training of "
        "teachers, logits that were there before, and evaluation.",
        methods_table(students),
        *titled_list("Notes:", notes),
        *code_blocks(steps),
    ]


def methods_table(students: Sequence[EvaluatedStudent]) -> Table:
    """Scores, seconds and start of each student; the teachers of the evaluations come first."""
    metrics = shown_metrics(students[0].evaluation)
    with_teacher = [student.evaluation["teacher"] for student in students if "teacher" in student.evaluation]
    teachers = {scores["path"]: scores for scores in with_teacher}
    rows = []
    for path, scores in teachers.items():
        name = "(the teacher)" if len(teachers) == 1 else f"(the teacher {path})"
        rows.append([name, scores.get("starts_from", ""), *(score_text(scores, metric) for metric in metrics), "", ""])
    names = [student.method for student in students]
    for name, student in zip(names, students, strict=True):
        scores = student.evaluation["model"]
        rows.append([
            name if names.count(name) == 1 else f"{name} ({student.path})",
            scores.get("starts_from", ""),
            *(score_text(scores, metric) for metric in metrics),
            percent(student.evaluation["agreement"]) if "agreement" in student.evaluation else "",
            f"{student.manifest['seconds']:.0f}",
        ])  # fmt: skip
    scores_headers = [METRICS[metric] for metric in metrics]
    headers = ["method", "starts from", *scores_headers, "agreement with the teacher", "seconds"]
    return Table(headers, rows, text_columns=2)


def named_notes(student: str, evaluation: dict[str, Any]) -> list[tuple[str, str]]:
    """The notes on a student and its teacher, each with the name of the model."""
    models = {student: evaluation["model"], "teacher": evaluation.get("teacher", {})}
    return [(name, note) for name, scores in models.items() for note in scores.get("notes", [])]


def domain_name(evaluation: dict[str, Any]) -> str:
    return evaluation["domain"] or "all domains"


def scores_text(evaluation: dict[str, Any]) -> str:
    interval = " Accuracies have 95 % Wilson intervals." if "accuracy" in evaluation["model"] else ""
    return f"Test scores in percent.{interval} One run per student: small differences prove nothing."


def seed_text(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def score_text(scores: dict[str, Any], metric: str) -> str:
    """A score in percent; an accuracy with its interval."""
    if metric != "accuracy":
        return percent(scores[metric])
    low, high = scores["accuracy_95"]
    return f"{percent(scores[metric])} [{percent(low)}, {percent(high)}]"


def percent(value: float) -> str:
    return f"{100 * value:.1f}"
