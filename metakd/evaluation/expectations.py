"""Whether a study reproduces what a recipe is known to reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from metakd.errors import InputError, nearest
from metakd.evaluation.study_results import Setting, StudyResults
from metakd.settings_files import load_yaml

DECIMALS = 6  # of a score; that of a cell has as many


@dataclass(frozen=True)
class Expectation:
    """A score that a study should reach, the mean over its seeds.

    Args:
        task, method: as the study calls them; a teacher is called "teacher of METHOD".
        interval: lowest and highest score that is accepted, e.g. the 95 % interval of an earlier report, as fractions.
        value: the score that was once reached; named in the message.
        domain: "" for the mean over the study's domains.
        metric: any score of the cells, e.g. accuracy, macro_f1, agreement, ece.
        fraction: of the labels.
        exclude_domain: whether the domain was hidden from the teacher.
    """

    task: str
    method: str
    interval: list[float]
    value: float | None = None
    domain: str = ""
    metric: str = "accuracy"
    fraction: float = 1.0
    exclude_domain: bool = False

    @property
    def title(self) -> str:
        details = [self.task, self.method, self.domain or "mean over domains"]
        details += [f"{self.fraction:g} of the labels"] * (self.fraction != 1)
        details += ["domain excluded"] * self.exclude_domain
        return f"{', '.join(details)}: {self.metric}"


def read_expectations(path: Path) -> list[Expectation]:
    """The entries of a YAML or JSON file: a list of records with the fields of `Expectation`.

    Raises:
        InputError: the file is missing or not such a list; names the entry and the field.
    """
    try:
        entries = load_yaml(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {error}; write a list of expected scores") from None
    if not isinstance(entries, list) or not entries:
        raise InputError(
            f"{path} is not a list of expected scores, e.g. [{{task: a, method: b, interval: [0.8, 0.9]}}]"
        )
    return [_expectation(path, number, entry) for number, entry in enumerate(entries, 1)]


def _expectation(path: Path, number: int, entry: Any) -> Expectation:
    where, known = f"{path}: entry {number}", [field.name for field in fields(Expectation)]
    if not isinstance(entry, dict):
        raise InputError(f"{where} is {entry!r}; it must be a record with the fields {', '.join(known)}")
    for name in entry:
        if name not in known:
            raise InputError(
                f"{where}: unknown field {name!r}; the fields are {', '.join(known)}{nearest(name, known)}"
            )
    for name in ("task", "method", "interval"):
        if name not in entry:
            raise InputError(f"{where}: {name} is missing")
    interval = entry["interval"]
    numbers = (
        isinstance(interval, list) and len(interval) == 2 and all(isinstance(end, int | float) for end in interval)
    )
    if not numbers or interval[0] > interval[1]:
        raise InputError(f"{where}: interval is {interval!r}; it must be two numbers, the lower one first")
    return Expectation(**entry)


def unmet(expectations: Sequence[Expectation], results: StudyResults) -> list[str]:
    """A line for each expected score that the study does not have, or that lies outside its interval."""
    lines = []
    for expected in expectations:
        score = reached(expected, results)
        low, high = expected.interval
        before = f" (expected {expected.value:.4f})" if expected.value is not None else ""
        if score is None:
            lines.append(f"{expected.title}: no result of it")
        elif not low <= score <= high:
            lines.append(f"{expected.title} {score:.4f} is outside {low:.4f} to {high:.4f}{before}")
    return lines


def reached(expected: Expectation, results: StudyResults) -> float | None:
    """The mean over seeds of the score of a method, and over domains if none is named; None if results are missing."""
    setting = Setting(expected.task, expected.fraction, expected.exclude_domain)
    selected = results.select(setting)
    by_domain = selected.get(expected.method, {})
    all_domains = {domain for parts in selected.values() for domain in parts}
    domains = [expected.domain] if expected.domain else sorted(all_domains)
    means = []
    for domain in domains:
        scores = by_domain[domain].scores(expected.metric) if domain in by_domain else []
        if not scores:
            return None
        means.append(sum(scores) / len(scores))
    return round(sum(means) / len(means), DECIMALS) if means else None
