"""The section of a study's report on the shares of the classes: how far predictions miss them, and what that costs."""

from __future__ import annotations

import numpy as np

from metakd.evaluation.class_shares import share_shift
from metakd.evaluation.document import Table
from metakd.evaluation.pictures import NamedTable, Section
from metakd.evaluation.resampling import Measure, bootstrap, macro_average, row_mean
from metakd.evaluation.sections.predictions import single_label_settings
from metakd.evaluation.sections.scores import points
from metakd.evaluation.statistics import compare
from metakd.evaluation.study_results import ByDomain, DomainResults, StudyResults

HEADERS = ["task", "method", "seeds", "shares missed by", "right, %", "with known shares", "difference",
           "95 % interval", "verdict"]  # fmt: skip
LEAST = 1e-4  # probability; files hold four decimals
KNOWN, PREDICTED = "known shares", "as predicted"


def shares_section(results: StudyResults) -> list[Section]:
    """What it would give to know the shares of the classes in each domain."""
    table = shares_table(results)
    if not table.rows:
        return []
    text = (
        "How far the mean probability of a class is from its share of the rows, in points (mean over domains, seeds "
        "and classes), and how many rows are right once logits are shifted so that it is not. The shares are those of "
        "the test rows; no other label is used. Someone who knows the shares of a domain gets such a classifier by "
        "set_class_shares.py. Each verdict is about one method alone."
    )
    return [
        Section("If the shares of the classes were known", [text], tables=[NamedTable("Shares", table, shown=True)])
    ]


def shares_table(results: StudyResults) -> Table:
    """A row for each method and teacher of each task."""
    rows = []
    for setting in single_label_settings(results):
        for name, by_domain in results.select(setting).items():
            if results.kind(name) != "control":
                rows.append([setting.task, name, *shares_cells(by_domain)])
    return results.table(HEADERS, rows, 2)


def shares_cells(by_domain: ByDomain) -> list[str]:
    """Seeds, missed shares, rows that are right before and after, and their difference."""
    seeds = [seed for seed in next(iter(by_domain.values())).seeds if all(seed in p.seeds for p in by_domain.values())]
    parts = {domain: part.of_seeds(seeds) for domain, part in by_domain.items()}
    missed = np.mean([missed_shares(part) for part in parts.values()])
    measures: dict[str, dict[str, Measure]] = {
        PREDICTED: {domain: row_mean(part.predictions == part.labels) for domain, part in parts.items()},
        KNOWN: {domain: row_mean(with_known_shares(part) == part.labels) for domain, part in parts.items()},
    }
    means = {name: {"": macro_average(of_domains)} for name, of_domains in bootstrap(measures).items()}
    (change,) = compare(means, PREDICTED)
    right = [f"{100 * means[name][''].scores.mean():.1f}" for name in (PREDICTED, KNOWN)]
    verdict = change.verdict.lower() if change.seeds > 1 else ""
    interval = f"{points(change.low)} to {points(change.high)}"
    return [str(len(seeds)), f"{100 * missed:.1f}", *right, points(change.difference), interval, verdict]


def missed_shares(part: DomainResults) -> float:
    """The mean over seeds and classes of |mean probability - share of the rows|."""
    return float(np.abs(part.probabilities.mean(1) - shares_of(part)).mean())


def shares_of(part: DomainResults) -> np.ndarray:
    """The share [C] of each class in the test rows."""
    return np.bincount(part.labels, minlength=part.probabilities.shape[-1]) / len(part.labels)


def with_known_shares(part: DomainResults) -> np.ndarray:
    """Predicted targets [seeds, rows] after a shift of the logits to the true shares.

    A class without a test row keeps the share of one row, since no finite shift gives it none.
    """
    shares = np.maximum(shares_of(part), 1 / len(part.labels))
    logits = np.log(np.maximum(part.probabilities, LEAST))
    return np.stack([(values + share_shift(values, shares / shares.sum())).argmax(1) for values in logits])
