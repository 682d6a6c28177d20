"""The section of a study's report on class priors: how far predictions miss them, what it would give to know them."""

from __future__ import annotations

import numpy as np

from metakd.evaluation.class_shares import share_shift
from metakd.evaluation.document import Table
from metakd.evaluation.pictures import NamedTable, Section
from metakd.evaluation.resampling import Measure, bootstrap, macro_average, row_mean
from metakd.evaluation.sections.predictions import single_label_settings
from metakd.evaluation.sections.scores import difference_cells
from metakd.evaluation.statistics import Comparison, compare, corrected
from metakd.evaluation.study_results import ByDomain, DomainResults, Setting, StudyResults

HEADERS = ["task", "method", "seeds", "shares missed by", "right, %", "with known shares", "difference",
           "95 % interval", "verdict"]  # fmt: skip
LEAST = 1e-4  # probability; files hold four decimals


def shares_section(results: StudyResults) -> list[Section]:
    """What it would give to know the shares of the classes in each domain."""
    table = shares_table(results)
    if not table.rows:
        return []
    text = (
        "A class's share is its fraction of the rows, its prior. The table says how far a class's mean probability "
        "is from its share, in points (mean over domains, seeds and classes), and how many rows are right once logits "
        "are shifted so that it is not. The shares are those of the test rows, and intervals take them as known; no "
        "other label is used. Someone who knows the shares of a domain gets such a classifier by set_class_shares.py."
    )
    tables = [NamedTable("Shares", table, shown=True)]
    return [Section("If the shares of the classes were known", [text], tables=tables)]


def shares_table(results: StudyResults) -> Table:
    """A row for each method and teacher that has the domains and seeds of the reference; verdicts are corrected."""
    rows = []
    for setting in single_label_settings(results):
        series = {
            name: found for name, found in results.comparable(setting).series.items() if results.kind(name) != "control"
        }
        rows += shares_rows(setting, series)
    return results.table(HEADERS, rows, 2)


def shares_rows(setting: Setting, series: dict[str, ByDomain]) -> list[list[str]]:
    """The rows of one setting, whose comparisons are one family."""
    changes = corrected([known_shares_change(by_domain) for by_domain in series.values()])
    rows = []
    for (name, by_domain), change in zip(series.items(), changes, strict=True):
        missed = np.mean([missed_shares(part) for part in by_domain.values()])
        before = np.mean([(part.predictions == part.labels).mean() for part in by_domain.values()])
        right = [f"{100 * before:.1f}", f"{100 * (before + change.difference):.1f}"]
        rows.append([setting.task, name, str(change.seeds), f"{100 * missed:.1f}", *right, *difference_cells(change)])
    return rows


def known_shares_change(by_domain: ByDomain) -> Comparison:
    """What known shares change in the mean over domains of the rows that are right."""
    measures: dict[str, dict[str, Measure]] = {
        "predicted": {domain: row_mean(part.predictions == part.labels) for domain, part in by_domain.items()},
        "shifted": {domain: row_mean(with_known_shares(part) == part.labels) for domain, part in by_domain.items()},
    }
    means = {name: {"": macro_average(of_domains)} for name, of_domains in bootstrap(measures).items()}
    return compare(means, "predicted")[0]


def missed_shares(part: DomainResults) -> float:
    """The mean over seeds and classes of |mean probability - share of the rows|."""
    return float(np.abs(part.probabilities.mean(1) - shares_of(part)).mean())


def shares_of(part: DomainResults) -> np.ndarray:
    """The share [C] of each class in the test rows."""
    return np.bincount(part.labels, minlength=part.probabilities.shape[-1]) / len(part.labels)


def with_known_shares(part: DomainResults) -> np.ndarray:
    """Predicted targets [seeds, rows] after a shift of the logits to the true shares.

    A class without a test row gets the share of one row, since no finite shift gives it none.
    """
    shares = np.maximum(shares_of(part), 1 / len(part.labels))
    logits = np.log(np.maximum(part.probabilities, LEAST))
    return np.stack([(values + share_shift(values, shares / shares.sum())).argmax(1) for values in logits])
