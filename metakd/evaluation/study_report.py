"""The report on a study, from its cells and the analyses of its teachers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from metakd.data.tables import UNLABELLED, read_rows
from metakd.evaluation.document import Block, Table, titled_list
from metakd.evaluation.pictures import NamedTable, Report, Section
from metakd.evaluation.report import seed_text
from metakd.evaluation.sections.costs import fractions_section, size_section
from metakd.evaluation.sections.folds import fold_scores, folds_section
from metakd.evaluation.sections.predictions import (
    Texts,
    confusion_section,
    reliability_section,
    suspects_section,
    test_suspects,
)
from metakd.evaluation.sections.scores import ablations_section, by_domain_section, comparison_section, points
from metakd.evaluation.sections.shares import shares_section
from metakd.evaluation.sections.teachers import Analysis, teacher_sections, training_suspects
from metakd.evaluation.sections.training import curves_section, provenance_section
from metakd.evaluation.sections.translators import translators_section
from metakd.evaluation.statistics import Comparison
from metakd.evaluation.study_results import CellFile, StudyResults
from metakd.evaluation.study_scores import StudyScores

MOST_NOTES = 20
CONTROLS = {
    "majority": "the most frequent class of the training rows",
    "tfidf": "a logistic regression on word counts (TF-IDF)",
    "embeddings": "a logistic regression on embeddings of the pretrained encoder, which is not trained",
}
# Comparisons are about the other method; the sentence is about the reference.
PHRASES = {"WORSE": "is better than", "BETTER": "is worse than", "NOT TOLD APART": "is not told apart from"}


def study_report(
    name: str,
    results: StudyResults,
    analyses: Sequence[Analysis],
    command: str,
    steps: Sequence[tuple[str, str]] = (),
    examples: bool = False,
) -> Report:
    """The report on a study.

    Args:
        name: of the study.
        analyses: of its teachers.
        command: that makes the study.
        steps: a kind of step and one of its commands.
        examples: whether texts of rows are shown; they are read from the tables.
    """
    scores, main = StudyScores(results), results.main_settings
    folds = fold_scores(scores) if results.study.get("folds") else None
    zero_shot = [setting for setting in results.settings if setting.exclude_domain and setting not in main]
    suspects = [*training_suspects(analyses), *test_suspects(results)]
    texts = read_texts(results, analyses) if examples else {}
    excluded = any(setting.exclude_domain for setting in main)
    unseen = "Teachers and prototypes saw no label of the domain that a student is for." if excluded else ""
    title = "Zero-shot: students and teachers by domain" if excluded else "Students and teachers by domain"
    sections = [
        *translators_section(scores),
        *(folds_section(folds) if folds else []),
        *comparison_section(scores),
        *by_domain_section(scores, main, title, unseen),
        *ablations_section(scores),
        *fractions_section(scores),
    ]
    if zero_shot:
        text = "The same methods with teachers and prototypes that saw no label of the student's domain."
        sections += by_domain_section(scores, zero_shot, "Zero-shot", text)
    sections += [
        *size_section(scores),
        *curves_section(study_histories(results), seeds_and_domains(results)),
        *reliability_section(results),
        *confusion_section(results),
        *shares_section(results),
        *suspects_section(suspects, texts),
        *teacher_sections(analyses, texts),
        *failed_section(results.failed),
        *notes_section(results.cells),
        provenance_section(command, steps, results.study, results.cells),
    ]
    return Report(
        f"Study {name}", verdict(scores, folds.comparisons if folds else []), about(results), sections, results.series
    )


def verdict(scores: StudyScores, over_folds: Sequence[Comparison]) -> str:
    """How the reference compares with every other method, in one sentence; of several tasks, each in a clause."""
    results = scores.results
    if over_folds:
        return f"Over {over_folds[0].seeds} folds, {clause(results.reference, over_folds)}."
    clauses = [clause(results.reference, scores.of(setting).comparisons) for setting in results.main_settings]
    if len(clauses) == 1:
        return f"{clauses[0]}."
    named = [f"on {setting.task}, {text}" for setting, text in zip(results.main_settings, clauses, strict=True)]
    return f"O{'; '.join(named)[1:]}."


def clause(reference: str, comparisons: Sequence[Comparison]) -> str:
    """How the reference compares with the other methods on one task."""
    if not comparisons:
        return f"{reference} has nothing to be compared with"
    if any(comparison.seeds == 1 for comparison in comparisons):
        differences = listed([f"{points(-c.difference)} from {c.method}" for c in comparisons])
        return f"One seed gives no verdict; {reference} differs by {differences}"
    parts = []
    for word, phrase in PHRASES.items():
        names = [f"{c.method} ({points(-c.difference)})" for c in comparisons if c.verdict == word]
        parts += [f"{phrase} {listed(names)}"] if names else []
    missed = [c.smallest_difference or 0.0 for c in comparisons if c.verdict == "NOT TOLD APART"]
    if missed:
        parts[-1] += f", where this study would miss differences below {100 * max(missed):.1f} points"
    return f"{reference} {'; '.join(parts)}"


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]


def about(results: StudyResults) -> list[str]:
    """What was compared, and on how much."""
    domains = {(cell["cell"]["task"], cell["cell"]["domain"]): len(cell["rows"]["guid"]) for cell in results.cells}
    tasks, seeds = [s.task for s in results.main_settings], sorted({cell["cell"]["seed"] for cell in results.cells})
    text = (
        f"{len(results.cells)} results: {len(results.methods)} methods on {len(tasks)} task{'s' * (len(tasks) > 1)} "
        f"({', '.join(tasks)}), {len(domains)} domains with {sum(domains.values())} test rows together, "
        f"{seed_text(seeds)}. Differences are points of the mean over domains."
    )
    names = {cell["cell"]["method"] for cell in results.cells if cell["cell"]["kind"] == "control"}
    if names:
        listed_controls = "; ".join(f"{name}, {words}" for name, words in CONTROLS.items() if name in names)
        text += f" Controls, which a method must beat to be worth its cost: {listed_controls}."
    failed = f"{len(results.failed)} results are missing because a step failed; see below."
    return [text, failed] if results.failed else [text]


def study_histories(results: StudyResults) -> list[tuple[str, str, dict]]:
    """The training curves of the main settings' students and teachers."""
    histories = []
    for setting in results.main_settings:
        task = setting.task if len(results.main_settings) > 1 else ""
        for name, by_domain in results.select(setting).items():
            for part in by_domain.values():
                for cell in part.cells:
                    if cell["cell"]["kind"] == "method":
                        teacher = {"teacher": cell["teacher_history"]} if cell["teacher_history"] else {}
                        histories.append((task, name, {**cell["history"], **teacher}))
    return histories


def seeds_and_domains(results: StudyResults) -> str:
    by_domain = results.select(results.main_settings[0])[results.reference]
    return f"{max(len(part.seeds) for part in by_domain.values())} seeds, {len(by_domain)} domains"


def failed_section(failed: Sequence[CellFile]) -> list[Section]:
    """The steps that failed, their logs, and the cells that have no result."""
    cells: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for cell in failed:
        point, why = cell["cell"], cell["failed"]
        words = [point["task"], point["domain"], f"seed {point['seed']}", point["method"]]
        cells[why["step"], why["message"], why["log"]].append(" ".join(words))
    if not cells:
        return []
    rows = [
        [step, message, log, "; ".join(dict.fromkeys(names)), str(len(names))]
        for (step, message, log), names in cells.items()
    ]
    text = "The same command tries them again. Scores above are computed without them."
    headers = ["step", "message", "log", "cells without result", "number"]
    table = NamedTable("Failed steps", Table(headers, rows, text_columns=4), shown=True)
    return [Section("What failed", [text], tables=[table])]


def notes_section(cells: Sequence[CellFile]) -> list[Section]:
    """What students start from, and what a reader of the results must know."""
    students = [cell for cell in cells if cell["cell"]["kind"] == "method"]
    starts = [(cell["cell"]["method"], cell["starts_from"]) for cell in students]
    notes = [(cell["cell"]["method"], note) for cell in cells for note in cell["notes"]]
    blocks: list[Block] = [*titled_list("The students start from:", starts), *titled_list("Notes:", notes)]
    lines = [line for block in blocks if isinstance(block, list) for line in block]
    if len(lines) > MOST_NOTES:
        lines = [*lines[:MOST_NOTES], f"{len(lines) - MOST_NOTES} more notes are in the cells"]
    return [Section("What the students start from, and notes", [], lines=lines)] if lines else []


def read_texts(results: StudyResults, analyses: Sequence[Analysis]) -> Texts:
    """The texts of all test and analysed rows by guid, from their tables; tables that are not there are left out."""
    tables = {cell["settings"]["task"]["test"] for cell in results.cells if "task" in cell["settings"]}
    tables |= {analysis.facts["table"] for analysis in analyses}
    texts: dict[str, str] = {}
    for table in sorted(table for table in tables if Path(table).is_file()):
        for row in read_rows(table, required=UNLABELLED):
            texts[row["guid"]] = " / ".join(filter(None, (row["text_a"], row["text_b"])))
    return texts
