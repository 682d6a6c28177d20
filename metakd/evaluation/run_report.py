"""The report on one run, a student per domain and one seed, from the results that report.py gathers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metakd.evaluation.document import Table, titled_list
from metakd.evaluation.lineage import code_blocks, read_published
from metakd.evaluation.pictures import Dots, NamedTable, Picture, Points, Report, Section, Series
from metakd.evaluation.report import (
    METRICS,
    domain_name,
    domains_table,
    named_notes,
    percent,
    roles,
    scores_text,
    seed_text,
    shown_metrics,
    steps_table,
)
from metakd.evaluation.sections.training import curves_section

STUDENT, TEACHER, MAJORITY = "student", "teacher", "majority class"
Evaluation = dict[str, Any]


def run_report(results: dict[str, Any]) -> Report:
    """The report on what `metakd.evaluation.report.summarise` returns; histories are read from the models' folders."""
    evaluations, means = results["domains"], results["mean_over_domains"]
    metric = shown_metrics(evaluations[0])[0]
    with_teacher = "teacher" in roles(evaluations)
    student = means[f"model_{metric}"]
    verdict = f"The students reach {percent(student)} % {METRICS[metric]}"
    verdict += f", the mean over {len(evaluations)} domains" if len(evaluations) > 1 else ""
    if with_teacher:
        difference = 100 * (student - means[f"teacher_{metric}"])
        side = "above" if difference > 0 else "below"
        verdict += f", {abs(difference):.1f} points {side} their teacher"
    one_seed = "one seed" if len(results["seeds"]) == 1 else "one run per student"
    verdict += f"; {one_seed} cannot tell whether another method would do better."
    sections = [
        scores_section(results, metric),
        limits_section(results),
        *size_section(evaluations, metric),
        *classes_section(evaluations),
        *curves_section(histories_of(evaluations), f"{seed_text(results['seeds'])}, {len(evaluations)} domains"),
        *notes_section(evaluations),
        made_section(results),
    ]
    about = [f"Method {', '.join(results['methods'])}, {seed_text(results['seeds'])}, {results['made'][:10]}."]
    return Report(f"Results of {', '.join(results['methods'])}", verdict, about, sections, [STUDENT, TEACHER, MAJORITY])


def scores_section(results: dict[str, Any], metric: str) -> Section:
    """The headline score of student and teacher in each domain."""
    evaluations = results["domains"]
    pictures: list[Picture] = []
    scores = [model[metric] for e in evaluations for model in (e["model"], e.get("teacher", e["model"]))]
    limits = (100 * min(scores) - 8, min(100.5, 100 * max(scores) + 8))
    for evaluation in evaluations:
        models = {STUDENT: evaluation["model"], TEACHER: evaluation.get("teacher")}
        values = {name: 100 * model[metric] for name, model in models.items() if model}
        intervals = [
            tuple(100 * end for end in models[name]["accuracy_95"]) if metric == "accuracy" else None for name in values
        ]
        if metric == "accuracy":
            values[MAJORITY] = 100 * evaluation["model"]["majority"]
            intervals.append(None)
        pictures.append(
            Dots(domain_name(evaluation), f"1 seed, {evaluation['model']['rows']} test rows", f"{METRICS[metric]}, %",
                 names=list(values), values=list(values.values()), intervals=intervals, limits=limits)
        )  # fmt: skip
    table = NamedTable("Scores, sizes and agreement", domains_table(results))
    return Section("Student and teacher by domain", [scores_text(evaluations[0])], pictures, [table])


def limits_section(results: dict[str, Any]) -> Section:
    """What a single run says nothing about."""
    lines = [
        "Whether another method is better: intervals here cover the choice of test rows, not the luck of training. "
        "Another seed alone often moves a score by a point or two.",
        "Whether a loss, a weight or a stage of the method helps: that takes the same run without it.",
        "How scores fall with fewer labels, or in a domain that the teacher never saw.",
    ]
    text = "experiments/compare.py runs such comparisons, and experiments/study_report.py reports on them."
    return Section("What one seed cannot show", [text], lines=lines)


def size_section(evaluations: Sequence[Evaluation], metric: str) -> list[Section]:
    """The mean score against size and time per row."""
    models = {
        STUDENT: [e["model"] for e in evaluations],
        TEACHER: [e["teacher"] for e in evaluations if "teacher" in e],
    }
    measures = {
        "parameters, millions": lambda model: model["parameters"] / 1e6,
        "milliseconds per row": lambda model: 1000 / model["speed"]["rows_per_second"] if "speed" in model else None,
    }
    pictures: list[Picture] = []
    for label, measure in measures.items():
        series = []
        for name, scored in models.items():
            x = [measure(model) for model in scored]
            if scored and None not in x:
                mean = sum(model[metric] for model in scored) / len(scored)
                series.append(Series(name, [sum(x) / len(x)], [100 * mean]))
        if series:
            basis = f"1 seed, mean over {len(evaluations)} domains"
            pictures.append(
                Points(f"Against {label}", basis, label, f"{METRICS[metric]}, %", series=series, large=True)
            )
    legend = [name for name, scored in models.items() if scored]
    return [Section("Score against size and time", [], pictures, legend=legend)] if len(legend) > 1 else []


def classes_section(evaluations: Sequence[Evaluation]) -> list[Section]:
    """The scores of each class, as a table."""
    rows = []
    for evaluation in evaluations:
        for name, scores in evaluation["model"].get("classes", {}).items():
            numbers = [percent(scores[key]) if key in scores else "" for key in ("precision", "recall", "f1")]
            rows.append([domain_name(evaluation), name, str(scores["rows"]), *numbers])
    headers = ["domain", "class", "test rows", "precision, %", "recall, %", "F1, %"]
    table = NamedTable("Precision, recall and F1 of the students", Table(headers, rows, text_columns=2), shown=True)
    return [Section("Classes", [], tables=[table])] if rows else []


def histories_of(evaluations: Sequence[Evaluation]) -> list[tuple[str, str, dict[str, Any]]]:
    """The training curves of students and teachers whose folders are there."""
    histories = []
    for evaluation in evaluations:
        histories.append(("", STUDENT, read_published(Path(evaluation["model"]["path"]) / "history.json")))
        teacher = evaluation.get("teacher", {}).get("path")
        history = read_published(Path(teacher) / "history.json") if teacher else {}
        histories.append(("", TEACHER, {TEACHER: history} if history else {}))
    return [(task, name, stages) for task, name, stages in histories if stages]


def notes_section(evaluations: Sequence[Evaluation]) -> list[Section]:
    """What the students start from, and what a reader of the results must know."""
    starts = [(domain_name(e), e["model"].get("starts_from", "")) for e in evaluations]
    notes = [note for e in evaluations for note in named_notes(domain_name(e), e)]
    blocks = [*titled_list("The students start from:", starts), *titled_list("Notes:", notes)]
    lines = [line for block in blocks if isinstance(block, list) for line in block]
    return [Section("What the students start from, and notes", [], lines=lines)] if lines else []


def made_section(results: dict[str, Any]) -> Section:
    """The code and the steps behind the run."""
    texts, lines = [], []
    for block in code_blocks(results["steps"]):
        if isinstance(block, str):
            texts.append(block)
        elif isinstance(block, list):
            lines += block
    versions = results["settings"]["versions"]
    texts.append("Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    return Section(
        "How it was made", texts, tables=[NamedTable("Steps", steps_table(results["steps"]), shown=True)], lines=lines
    )
