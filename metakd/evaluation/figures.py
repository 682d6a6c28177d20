"""Draw the pictures of a report with matplotlib, as SVG in the colours of the page that it stands on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETLEFT, CARETRIGHT
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from metakd.evaluation.pictures import Curves, Dots, Histogram, Matrix, Picture, Points
from metakd.evaluation.svg import GRID, INK, MUTED, SERIES, inline_svg, svg_file
from metakd.evaluation.text import shorten

WIDTH = 340  # px; a picture fits a telephone, three stand beside each other on a screen
LETTER = 6.4  # px, mean width of a letter in the labels
LONGEST_NAME = 24  # letters
STEPS = [1, 2, 2.5, 5, 10]  # between two ticks of an axis, times a power of ten
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text: it is small, can be searched, and takes the page's font
    "text.parse_math": False,  # a domain may be called "$x$"
    "svg.hashsalt": "metakd",  # equal pictures are equal files
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlecolor": MUTED,
    "axes.titlelocation": "left",
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "axes.linewidth": 0.8,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "text.color": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.major.size": 0,
}
Numbers = Mapping[str, int]  # colour and marker of each name


def draw(picture: Picture, numbers: Numbers, prefix: str) -> str:
    """The picture as an `<svg>` element of at most 340 px in width.

    Args:
        numbers: colour and marker of each name; a name without number has those of 0.
        prefix: of the ids inside, different for each picture of a page.
    """
    with mpl.rc_context(SETTINGS):
        figure = DRAW[type(picture)](picture, numbers)
        return inline_svg(figure, prefix, shorten(picture.title, 200), shorten(picture.describe(), 2000))


def draw_file(picture: Picture, names: Sequence[str]) -> str:
    """The picture as an SVG file of its own, with a legend of these names, in light or dark colours."""
    with mpl.rc_context(SETTINGS):
        figure = DRAW[type(picture)](picture, {name: number for number, name in enumerate(names)})
        marks = [Line2D([], [], color=look(i)[0], marker=look(i)[1], label=name) for i, name in enumerate(names)]
        figure.axes[0].legend(handles=marks, loc="lower right", frameon=False)
        return svg_file(inline_svg(figure, "", shorten(picture.title, 200), shorten(picture.describe(), 2000)))


def new_axes(picture: Picture, height: int, left: float = 46, right: float = 14) -> tuple[Figure, Axes]:
    """A figure of this height in px, and axes with margins at its left and right; the label of y lies on top."""
    bottom = 40 if picture.x_label else 24
    top = 24 if picture.y_label else 8
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    inner = (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - bottom - top) / height)
    axes = figure.add_axes(inner)
    axes.set_xlabel(shorten(picture.x_label, 60))
    axes.set_title(shorten(picture.y_label, 40), x=-(left - 6) / (WIDTH - left - right), pad=8)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.tick_params(axis="x", length=3)
    return figure, axes


def draw_dots(picture: Dots, numbers: Numbers) -> Figure:
    names = [shorten(name, LONGEST_NAME) for name in picture.names]
    left = 12 + LETTER * max((len(name) for name in names), default=0)
    figure, axes = new_axes(picture, 50 + 23 * len(names), left=left, right=46)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    if picture.zero_line:
        axes.axvline(0, color=MUTED, linewidth=1)
    if picture.limits:
        axes.set_xlim(*picture.limits)
    places = zip(picture.names, picture.values, picture.intervals, strict=True)
    for place, (name, value, interval) in enumerate(places):
        if value is None:
            continue
        colour, marker = look(numbers.get(name, 0))
        text = f"{round(value, 1) + 0.0:+.1f}" if picture.zero_line else f"{value:.1f}"
        axes.text(1.03, place, text, transform=axes.get_yaxis_transform(), va="center", color=INK)
        if picture.limits and not picture.limits[0] <= value <= picture.limits[1]:
            below = value < picture.limits[0]
            arrow, end = (CARETLEFT, 0.02) if below else (CARETRIGHT, 0.98)
            axes.plot([end], [place], marker=arrow, color=colour, transform=axes.get_yaxis_transform())
            continue
        if interval:
            axes.hlines(place, *interval, color=colour, linewidth=2.4, alpha=0.55)
        if picture.single_values:
            singles = picture.single_values[place]
            axes.plot(singles, [place] * len(singles), "|", color=colour, markersize=8, markeredgewidth=1, alpha=0.8)
        axes.plot([value], [place], marker, color=colour, markersize=6.5)
    return figure


def draw_curves(picture: Curves, numbers: Numbers) -> Figure:
    figure, axes = new_axes(picture, 220)
    if picture.diagonal:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
    for line in picture.series:
        colour, marker = look(numbers.get(line.name, 0))
        x, y = list(line.x), numbers_of(line.y)
        size = 5 if len(x) <= 30 else 0
        axes.plot(x, y, marker=marker, color=colour, markersize=size, linewidth=1.6)
        if line.low:
            axes.vlines(x, numbers_of(line.low), numbers_of(line.high), color=colour, linewidth=2.4, alpha=0.35)
    if picture.log_x:
        axes.set_xscale("log")
    if picture.x_ticks:
        axes.xaxis.set_major_locator(FixedLocator(list(picture.x_ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return figure


def draw_histogram(picture: Histogram, numbers: Numbers) -> Figure:
    figure, axes = new_axes(picture, 170)
    colour, _ = look(0)
    axes.stairs(picture.counts, picture.edges, fill=True, color=colour, alpha=0.6, linewidth=0)
    axes.axvline(picture.mean, color=INK, linewidth=1.2)
    axes.set_xlim(picture.edges[0], picture.edges[-1])
    return figure


def draw_points(picture: Points, numbers: Numbers) -> Figure:
    figure, axes = new_axes(picture, 230 if picture.ticks else 250, left=46 if picture.ticks else 12)
    for group in picture.series:
        colour, marker = look(numbers.get(group.name, 0))
        if picture.large and group.low:
            axes.vlines(group.x, numbers_of(group.low), numbers_of(group.high), color=colour, linewidth=2.4, alpha=0.4)
        size, alpha = (8, 1.0) if picture.large else (4, 0.7)
        axes.plot(group.x, numbers_of(group.y), marker, color=colour, markersize=size, alpha=alpha, markeredgewidth=0)
    if picture.large:
        axes.margins(0.12)
    if not picture.ticks:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines["bottom"].set_visible(False)
    return figure


def draw_matrix(picture: Matrix, numbers: Numbers) -> Figure:
    names = [shorten(name, 14) for name in picture.rows]
    left = 24 + LETTER * max(len(name) for name in names)
    height = 34 if len(names) <= 6 else 18
    figure, axes = new_axes(picture, 60 + height * len(names), left=left)
    colour, _ = look(0)
    for row, counts in enumerate(picture.counts):
        for column, count in enumerate(counts):
            share = count / max(sum(counts), 1)
            cell = Rectangle(
                (column - 0.49, row - 0.48), 0.98, 0.96, color=colour, alpha=0.06 + 0.6 * share, linewidth=0
            )
            axes.add_patch(cell)
            if len(names) <= 8:
                axes.text(column, row, str(count), ha="center", va="center", color=INK)
    axes.set_xlim(-0.5, len(picture.columns) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_yticks(range(len(names)), names)
    columns = [shorten(name, 14 if len(names) <= 3 else 7) for name in picture.columns]
    axes.set_xticks(range(len(columns)), columns if len(columns) <= 6 else [""] * len(columns))
    return figure


def numbers_of(values: Sequence[float | None]) -> list[float]:
    """Values with NaN for None, which leaves a gap."""
    return [math.nan if value is None else value for value in values]


def look(number: int) -> tuple[str, str]:
    """Colour and marker of a number; the first 64 numbers look different."""
    row = number // len(SERIES)
    return SERIES[number % len(SERIES)], MARKERS[(number + row) % len(MARKERS)]


DRAW: dict[type[Picture], Callable[[Any, Numbers], Figure]] = {
    Dots: draw_dots,
    Curves: draw_curves,
    Histogram: draw_histogram,
    Points: draw_points,
    Matrix: draw_matrix,
}
