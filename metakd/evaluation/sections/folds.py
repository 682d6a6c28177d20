"""The section of a study's report that takes the folds of one table together."""

from __future__ import annotations

import numpy as np

from metakd.evaluation.document import Table
from metakd.evaluation.pictures import NamedTable, Section
from metakd.evaluation.resampling import SeedScores
from metakd.evaluation.sections.scores import points
from metakd.evaluation.statistics import Comparison, compare_folds, estimate_folds
from metakd.evaluation.study_scores import MEAN, StudyScores

HEADERS = ["method", "folds", "mean", "95 % interval", "minus {reference}", "95 % interval", "verdict"]


def fold_scores(scores: StudyScores) -> dict[str, SeedScores]:
    """The mean over domains and seeds in each fold, of every method that was run in all folds of the reference.

    There is nothing before two folds are finished.
    """
    results = scores.results
    folds = [scores.of(setting) for setting in results.main_settings]
    means = [fold.scores.get(MEAN) or fold.scores.get(fold.domains[0], {}) for fold in folds]
    means = [by_name for by_name in means if results.reference in by_name]
    if len(means) < 2:
        return {}
    complete = [name for name in results.series if all(name in by_name for by_name in means)]
    table = {}
    for name in complete:
        estimates = [by_name[name].estimate for by_name in means]
        values = np.array([estimate.value for estimate in estimates])
        table[name] = SeedScores(values, values[None], sum(estimate.rows for estimate in estimates))
    return table


def fold_comparisons(scores: StudyScores) -> list[Comparison]:
    """The methods against the reference over all folds."""
    table = fold_scores(scores)
    return compare_folds(table, scores.results.reference) if table else []


def folds_table(scores: StudyScores) -> Table:
    """A row for each method that was run in all folds."""
    compared = {comparison.method: comparison for comparison in fold_comparisons(scores)}
    rows = []
    for name, by_fold in fold_scores(scores).items():
        mean, c = estimate_folds(by_fold), compared.get(name)
        interval = f"{100 * mean.low:.1f} to {100 * mean.high:.1f}"
        row = [name, str(mean.seeds), f"{100 * mean.value:.1f}", interval]
        difference = (
            [points(c.difference), f"{points(c.low)} to {points(c.high)}", c.verdict.lower()] if c else [""] * 3
        )
        rows.append([*row, *difference])
    return Table([header.format(reference=scores.results.reference) for header in HEADERS], rows)


def folds_section(scores: StudyScores) -> list[Section]:
    """The means over all folds, if the study's tasks are folds."""
    if not scores.results.study.get("folds") or not (table := folds_table(scores)).rows:
        return []
    text = (
        "Each task is a fold: its test rows are training rows of the others, and every row is tested once. Intervals "
        "and verdicts are over folds, with the variance that Nadeau and Bengio (2003) give folds whose training rows "
        "overlap; verdicts are corrected for the number of methods."
    )
    return [Section("All folds together", [text], tables=[NamedTable("Means over folds", table, shown=True)])]
