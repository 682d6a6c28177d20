"""The cells of a study, grouped into what can be compared: the same task, labels and rows, for each method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metakd.errors import InputError
from metakd.evaluation.document import Table
from metakd.evaluation.predictions import predicted
from metakd.studies.cells import read_cells, read_study

CellFile = dict[str, Any]
KINDS = ("method", "teacher", "control")


class Setting(NamedTuple):
    """What methods that are compared have in common."""

    task: str
    fraction: float
    exclude_domain: bool


@dataclass(frozen=True)
class DomainResults:
    """The results of one method in one domain, seed by seed, on the same test rows.

    Args:
        cells: one for each seed.
        seeds: in the order of the cells.
    """

    cells: list[CellFile]
    seeds: list[int]

    @cached_property
    def labels(self) -> np.ndarray:
        """Targets of the rows, see `metakd.data.labels.Labels.targets`."""
        return np.array(self.cells[0]["rows"]["label"])

    @cached_property
    def probabilities(self) -> np.ndarray:
        """[seeds, rows, classes]."""
        return np.array([cell["rows"]["probabilities"] for cell in self.cells])

    @cached_property
    def predictions(self) -> np.ndarray:
        """Predicted targets [seeds, rows, ...]."""
        return np.stack([predicted(values, self.problem) for values in self.probabilities])

    @property
    def problem(self) -> Any:
        return self.cells[0]["problem"]

    def scores(self, name: str) -> list[float]:
        """A score of each seed that has it."""
        return [cell["scores"][name] for cell in self.cells if cell["scores"].get(name) is not None]

    def of_seeds(self, seeds: Sequence[int]) -> DomainResults:
        return DomainResults([self.cells[self.seeds.index(seed)] for seed in seeds], list(seeds))


ByDomain = dict[str, DomainResults]


@dataclass(frozen=True)
class StudyResults:
    """All results of a study.

    Args:
        study: its settings, see `metakd.studies.study.Study`.
        cells: those that have a result.
        failed: those that have none.
    """

    study: dict[str, Any]
    cells: list[CellFile]
    failed: list[CellFile]

    def __post_init__(self) -> None:
        if not self.cells:
            raise InputError(f"the study has no result ({len(self.failed)} cells failed); run it first")
        check_rows(self.cells)

    @property
    def reference(self) -> str:
        """The series that every other one is compared with: the reference method, with the study's first student."""
        if not self.methods or self.example(self.methods[0])["cell"]["method"] != self.study["reference"]:
            raise InputError(f"the study has no result of its reference {self.study['reference']!r}; run it first")
        return self.methods[0]

    def kind(self, name: str) -> str:
        """ "method", "teacher" or "control"."""
        return self.example(name)["cell"]["kind"]

    def student(self, name: str) -> str:
        """What the students of a series start from."""
        return self.example(name)["cell"]["student"]

    def method_settings(self, name: str) -> dict[str, Any]:
        """The method file of a series, with the study's changes."""
        return self.example(name)["settings"].get("method", {})

    def title(self, setting: Setting, text: str) -> str:
        """A picture's title, with the task where the study has several."""
        return f"{setting.task}, {text}" if len(self.main_settings) > 1 else text

    def table(self, headers: list[str], rows: list[list[str]], text_columns: int) -> Table:
        """A table whose first column is the task; a study of one task goes without that column."""
        first = 0 if len(self.main_settings) > 1 else 1
        return Table(headers[first:], [row[first:] for row in rows], text_columns - first)

    @cached_property
    def by_series(self) -> dict[str, list[CellFile]]:
        """The cells of each series, a method, teacher or control: methods come first, and the reference before all.

        A method is named with its student where it has several. Methods whose teachers are the same share one
        series of teachers.
        """
        first, names = self.study["reference"], self._teacher_names()
        students: dict[tuple[str, str], set[str]] = defaultdict(set)
        for cell in self.cells:
            students[cell["cell"]["task"], cell["cell"]["method"]] |= {cell["cell"]["student"]} - {""}

        def place(cell: CellFile) -> tuple[int, bool]:
            return KINDS.index(cell["cell"]["kind"]), cell["cell"]["method"] != first

        series: dict[str, list[CellFile]] = defaultdict(list)
        for cell in sorted(self.cells, key=place):
            point = cell["cell"]
            several = point["student"] and len(students[point["task"], point["method"]]) > 1
            name = f"{point['method']} ({point['student']})" if several else point["method"]
            series[names[point["method"]] if point["kind"] == "teacher" else name].append(cell)
        return dict(series)

    def _teacher_names(self) -> dict[str, str]:
        """The name of each method's teacher."""
        keys: dict[str, set[str]] = defaultdict(set)
        for cell in self.cells:
            if cell["cell"]["kind"] == "teacher":
                keys[cell["cell"]["method"]].add(cell["key"])
        names = {}
        for method, own in keys.items():
            sharing = [other for other in keys if keys[other] == own]
            sharing.sort(key=lambda other: other != self.study["reference"])
            more = f" and {len(sharing) - 1} more" if len(sharing) > 2 else f", {sharing[-1]}" * (len(sharing) == 2)
            names[method] = f"teacher of {sharing[0]}{more}"
        return names

    @property
    def series(self) -> list[str]:
        """Names of all series, in order."""
        return list(self.by_series)

    @property
    def methods(self) -> list[str]:
        """Names of the methods alone."""
        return [name for name in self.series if self.kind(name) == "method"]

    def example(self, name: str) -> CellFile:
        """The first cell of a series."""
        return self.by_series[name][0]

    @property
    def settings(self) -> list[Setting]:
        """All settings, in the order of tasks; most labels first."""
        found = {setting_of(cell): None for cell in self.cells}
        tasks = list(dict.fromkeys(setting.task for setting in found))
        return sorted(found, key=lambda s: (tasks.index(s.task), s.exclude_domain, -s.fraction))

    @property
    def main_settings(self) -> list[Setting]:
        """The setting of each task in which its methods are compared first: all labels, if the study has that."""
        first: dict[str, Setting] = {}
        for setting in self.settings:
            first.setdefault(setting.task, setting)
        return list(first.values())

    def select(self, setting: Setting) -> dict[str, ByDomain]:
        """Results by series and domain."""
        selected: dict[str, ByDomain] = {}
        for name, cells in self.by_series.items():
            by_domain: dict[str, dict[int, CellFile]] = defaultdict(dict)
            for cell in cells:
                if setting_of(cell) == setting:
                    by_domain[cell["cell"]["domain"]][cell["cell"]["seed"]] = cell
            if by_domain:
                selected[name] = {domain: by_seed(found) for domain, found in by_domain.items()}
        return selected

    def comparable(self, setting: Setting) -> Comparable:
        """The methods of a setting in the domains of the reference, on seeds that all of them have.

        Where results are missing, methods or seeds are left out, so that as many results of methods as possible are
        compared: a seed that has just been started, or a method that failed in one seed.
        """
        selected = self.select(setting)
        anchor = self.reference if self.reference in selected else next(iter(selected))
        domains = list(selected[anchor])
        own = {name: seeds_in_all(by_domain, domains) for name, by_domain in selected.items()}
        methods = [name for name in own if self.kind(name) == "method"] or list(own)
        common = most_common([own[name] for name in methods], own[anchor])
        seeds = sorted(common)
        names = [name for name in own if common and common <= own[name]]
        series = {name: {domain: selected[name][domain].of_seeds(seeds) for domain in domains} for name in names}
        left_out = [name for name in own if name not in names]
        left_out += [f"seed {seed}" for seed in sorted(own[anchor] - common)]
        return Comparable(selected[anchor][domains[0]].cells[0], domains, seeds, series, left_out)


class Comparable(NamedTuple):
    """The results of one setting that can be compared.

    Args:
        example: a cell of the reference.
        domains: those of the reference.
        seeds: those that all compared methods have in all domains.
        series: by method.
        left_out: the other methods, and the other seeds of the reference.
    """

    example: CellFile
    domains: list[str]
    seeds: list[int]
    series: dict[str, ByDomain]
    left_out: list[str]


def read_results(folder: Path) -> StudyResults:
    """The results of the study in a folder, finished or not.

    Raises:
        InputError: the folder has no study, or the study no result.
    """
    cells = read_cells(folder)
    failed = [cell for cell in cells if cell["failed"] is not None]
    return StudyResults(read_study(folder), [cell for cell in cells if cell["failed"] is None], failed)


def setting_of(cell: CellFile) -> Setting:
    point = cell["cell"]
    return Setting(point["task"], point["fraction"], point["exclude_domain"])


def seeds_in_all(by_domain: ByDomain, domains: Sequence[str]) -> set[int]:
    """The seeds of a method that have a result in each of these domains."""
    return set.intersection(*({*by_domain[domain].seeds} if domain in by_domain else set() for domain in domains))


def most_common(own: Sequence[Collection[int]], seeds: Collection[int]) -> set[int]:
    """The seeds that leave two methods and the most results, of methods that have them all; most seeds of equal ones.

    Args:
        own: the seeds of each method.
        seeds: those to choose from.
    """
    by_methods = sorted(seeds, key=lambda seed: (-sum(seed in each for each in own), seed))

    def value(found: set[int]) -> tuple[bool, int, int]:
        methods = sum(found.issubset(each) for each in own)
        return methods > 1, len(found) * methods, len(found)

    return max([{*by_methods[: i + 1]} for i in range(len(by_methods))], key=value, default=set())


def by_seed(cells: dict[int, CellFile]) -> DomainResults:
    seeds = sorted(cells)
    return DomainResults([cells[seed] for seed in seeds], seeds)


def check_rows(cells: Iterable[CellFile]) -> None:
    """Refuse cells that were scored on different rows of one domain: they cannot be paired."""
    first: dict[tuple[str, str], CellFile] = {}
    for cell in cells:
        place = cell["cell"]["task"], cell["cell"]["domain"]
        other = first.setdefault(place, cell)
        if any(cell["rows"][column] != other["rows"][column] for column in ("guid", "label")):
            raise InputError(
                f"cells {other['key']} and {cell['key']} hold different test rows of domain {place[1]!r} of task "
                f"{place[0]!r}; run the study again with one test table"
            )
