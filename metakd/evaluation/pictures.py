"""The pictures and sections of a report as plain records; `metakd.evaluation.figures` draws the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from metakd.evaluation.document import Table

LONGEST_LIST = 30  # values that the text of a picture names


@dataclass(frozen=True)
class Series:
    """A named sequence of values.

    Args:
        name: as in the legend; the report gives every name one colour and one marker.
        x, y: values; None in `y` leaves a gap.
        low, high: ends of an interval around each `y`, or empty.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


@dataclass(frozen=True)
class Picture:
    """What all pictures have.

    Args:
        title: what it shows.
        basis: how many seeds and rows it stands on.
        x_label, y_label: of the axes, with the unit.
    """

    title: str
    basis: str
    x_label: str = ""
    y_label: str = ""

    def describe(self) -> str:
        """The values of the picture in words, for a reader who does not see it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Dots(Picture):
    """A dot with an interval for each name, one below the other.

    Args:
        names: one for each dot.
        values: of the dots; None for a name without value.
        intervals: (low, high) of each dot, or None.
        single_values: of each name, e.g. one for each seed; drawn small.
        limits: of the x axis, so that neighbouring pictures can be compared; an arrow stands for a dot outside.
        zero_line: whether a line marks 0.
    """

    names: Sequence[str] = ()
    values: Sequence[float | None] = ()
    intervals: Sequence[tuple[float, float] | None] = ()
    single_values: Sequence[Sequence[float]] = ()
    limits: tuple[float, float] | None = None
    zero_line: bool = False

    def describe(self) -> str:
        texts = []
        for name, value, interval in zip(self.names, self.values, self.intervals, strict=True):
            if value is not None:
                ends = f" ({interval[0]:.1f} to {interval[1]:.1f})" if interval else ""
                texts.append(f"{name} {value:.1f}{ends}")
        return _listed(texts)


@dataclass(frozen=True)
class Curves(Picture):
    """Lines with markers and, where there are intervals, bands.

    Args:
        series: the lines.
        x_ticks: marked values of x; by default chosen by the axis.
        log_x: whether x is logarithmic.
        diagonal: whether a line marks y = x, on axes from 0 to 1.
    """

    series: Sequence[Series] = ()
    x_ticks: Sequence[float] = ()
    log_x: bool = False
    diagonal: bool = False

    def describe(self) -> str:
        texts = []
        for line in self.series:
            points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None]
            if points:
                (x0, y0), (x1, y1) = points[0], points[-1]
                texts.append(f"{line.name} {y0:.3g} at {x0:.3g}" + (f", {y1:.3g} at {x1:.3g}" if x1 != x0 else ""))
        return _listed(texts)


@dataclass(frozen=True)
class Histogram(Picture):
    """How many rows have values in each interval.

    Args:
        edges: ends of the intervals, one more than counts.
        counts: rows in each.
        mean: of all values, marked by a line.
    """

    edges: Sequence[float] = ()
    counts: Sequence[int] = ()
    mean: float = 0.0

    def describe(self) -> str:
        return f"{sum(self.counts)} values from {self.edges[0]:.2f} to {self.edges[-1]:.2f}, mean {self.mean:.3f}"


@dataclass(frozen=True)
class Points(Picture):
    """Groups of points.

    Args:
        series: the groups.
        large: whether points are few and large (a model each) or many and small (a row each).
        ticks: whether the axes have numbers; those of a projection mean nothing.
    """

    series: Sequence[Series] = ()
    large: bool = False
    ticks: bool = True

    def describe(self) -> str:
        if not self.large:
            return _listed([f"{len(group.x)} rows {group.name}" for group in self.series])
        points = [(group.name, x, y) for group in self.series for x, y in zip(group.x, group.y, strict=True)]
        return _listed([f"{name} {y:.1f} at {x:.3g}" for name, x, y in points if y is not None])


@dataclass(frozen=True)
class Matrix(Picture):
    """Counts by class and predicted class; colours show the share of the class.

    Args:
        rows: names of the classes.
        columns: names of the predicted classes.
        counts: [classes, predicted classes].
    """

    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    counts: Sequence[Sequence[int]] = ()

    def describe(self) -> str:
        return _listed([
            f"{name} predicted as {column}: {count}"
            for name, counts in zip(self.rows, self.counts, strict=True)
            for column, count in zip(self.columns, counts, strict=True)
        ])  # fmt: skip


@dataclass(frozen=True)
class NamedTable:
    """A table that a reader can open.

    Args:
        shown: whether it is open from the start.
    """

    title: str
    table: Table
    shown: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Args:
        title: heading.
        texts: paragraphs that say what is shown, and what to see in it.
        legend: names of the series, where its pictures have several.
        pictures: drawn in the HTML report; Markdown has the tables alone.
        tables: their numbers.
        lines: a list below the texts.
    """

    title: str
    texts: list[str]
    pictures: list[Picture] = field(default_factory=list)
    tables: list[NamedTable] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    legend: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """A whole report.

    Args:
        title: heading.
        verdict: the answer in one sentence.
        about: paragraphs about what was compared.
        sections: in order.
        series: every name that a legend shows, in the order of colours.
    """

    title: str
    verdict: str
    about: list[str]
    sections: list[Section]
    series: list[str] = field(default_factory=list)


def _listed(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - LONGEST_LIST} more" if len(texts) > LONGEST_LIST else ""
    return "; ".join(texts[:LONGEST_LIST]) + more
