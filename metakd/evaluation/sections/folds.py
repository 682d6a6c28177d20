"""The section of a study's report that takes the folds of one table together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metakd.errors import InputError
from metakd.evaluation.document import Table
from metakd.evaluation.pictures import NamedTable, Section
from metakd.evaluation.sections.scores import difference_cells
from metakd.evaluation.statistics import Comparison, compare_folds, estimate_folds
from metakd.evaluation.study_results import Setting, StudyResults
from metakd.evaluation.study_scores import StudyScores

HEADERS = ["method", "folds", "mean", "95 % interval", "minus {reference}", "95 % interval", "verdict"]


class FoldScores(NamedTuple):
    """The scores of the finished folds.

    Args:
        table: by method the mean over domains and seeds in each fold [k], of those that were run in all k.
        rows: test rows of these folds together.
        folds: of the study, finished or not.
        unfinished: tasks that lack a domain or a seed of the reference.
        left_out: methods that lack a result in a finished fold.
        reference: that the methods are compared with.
        comparisons: of the means over folds.
    """

    table: dict[str, np.ndarray]
    rows: int
    folds: int
    unfinished: list[str]
    left_out: list[str]
    reference: str
    comparisons: list[Comparison]


def fold_scores(scores: StudyScores) -> FoldScores:
    """The scores of each finished fold; the table is empty before two are finished.

    Raises:
        InputError: a row is a test row of two folds.
    """
    results, reference = scores.results, scores.results.reference
    found = {setting: scores.of(setting) for setting in results.main_settings}
    most = max(len(fold.domains) * len(fold.seeds) for fold in found.values())
    finished = {
        setting: fold.scores[fold.place]
        for setting, fold in found.items()
        if len(fold.domains) * len(fold.seeds) == most and reference in fold.scores.get(fold.place, {})
    }
    names = {name for by_name in finished.values() for name in by_name}
    complete = [name for name in results.series if all(name in by_name for by_name in finished.values())]
    table = {}
    if len(finished) > 1:
        for name in complete:
            table[name] = np.array([by_name[name].estimate.value for by_name in finished.values()])
    rows, folds = require_disjoint(results, [*finished]), len(results.study["tasks"])
    comparisons = compare_folds(table, reference, rows, folds) if table else []
    unfinished = [setting.task for setting in found if setting not in finished]
    return FoldScores(table, rows, folds, unfinished, sorted(names - {*complete}), reference, comparisons)


def require_disjoint(results: StudyResults, settings: list[Setting]) -> int:
    """The number of test rows of all folds; none may be in two of them."""
    first: dict[tuple[str, str], str] = {}
    for setting in settings:
        for domain, part in results.select(setting)[results.reference].items():
            for guid in part.cells[0]["rows"]["guid"]:
                other = first.setdefault((domain, guid), setting.task)
                if other != setting.task:
                    raise InputError(
                        f"study.folds is true, but row {guid!r} of domain {domain!r} is a test row of {other} and of "
                        f"{setting.task}; deal the rows into folds once, or leave out folds"
                    )
    return len(first)


def folds_table(found: FoldScores) -> Table:
    """A row for each method that was run in all finished folds."""
    compared = {comparison.method: comparison for comparison in found.comparisons}
    rows = []
    for name, by_fold in found.table.items():
        mean = estimate_folds(by_fold, found.rows, found.folds)
        start = [name, str(mean.seeds), f"{100 * mean.value:.1f}", f"{100 * mean.low:.1f} to {100 * mean.high:.1f}"]
        rows.append([*start, *difference_cells(compared.get(name))])
    return Table([header.format(reference=found.reference) for header in HEADERS], rows)


def folds_section(found: FoldScores) -> list[Section]:
    """The means over all folds, once two are finished."""
    if not found.table:
        return []
    text = (
        "Each task is a fold: its test rows are training or dev rows of the others. Intervals and verdicts are over "
        "folds, whose variance allows for training rows in common (Nadeau and Bengio 2003); verdicts are corrected for "
        "the number of methods."
    )
    lines = [f"unfinished, and left out: {', '.join(found.unfinished)}"] * bool(found.unfinished)
    lines += [f"not run in all of these folds: {', '.join(found.left_out)}"] * bool(found.left_out)
    tables = [NamedTable("Means over folds", folds_table(found), shown=True)]
    return [Section("All folds together", [text], tables=tables, lines=lines)]
