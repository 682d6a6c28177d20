"""Sections of a study's report about what a score costs: labels, size, time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metakd.evaluation.pictures import Curves, NamedTable, Picture, Points, Section, Series
from metakd.evaluation.sections.scores import MOST_PICTURES, basis, score_cells
from metakd.evaluation.study_results import ByDomain
from metakd.evaluation.study_scores import Score, StudyScores


def fractions_section(scores: StudyScores) -> list[Section]:
    """Score against the fraction of the labels that are visible: a line per method."""
    results = scores.results
    pictures: list[Picture] = []
    rows = []
    for main in results.main_settings:
        settings = [s for s in results.settings if (s.task, s.exclude_domain) == (main.task, main.exclude_domain)]
        by_fraction = {100 * s.fraction: scores.of(s) for s in sorted(settings, key=lambda s: s.fraction)}
        if len(by_fraction) < 2:
            continue
        found = scores.of(main)
        for place in list(found.scores)[:MOST_PICTURES]:
            lines = []
            for name in results.series:
                points = {x: s.scores[place][name] for x, s in by_fraction.items() if name in s.scores.get(place, {})}
                lines.append(line_of(name, points))
                rows += [[main.task, place, name, f"{x:g}", *score_cells(score)] for x, score in points.items()]
            pictures.append(
                Curves(results.title(main, place), basis(found, place), "labels of the domain, %", found.label,
                       series=[line for line in lines if line.x], x_ticks=list(by_fraction), log_x=min(by_fraction) > 0)
            )  # fmt: skip
    if not pictures:
        return []
    text = "How scores fall with fewer visible labels. Lines are means over seeds, bars 95 % intervals."
    headers = ["task", "domain", "method", "labels, %", "score", "95 % interval", "deviation over seeds"]
    table = NamedTable("All scores", results.table(headers, rows, 3))
    return [Section("Fewer labels", [text], pictures, [table], legend=results.series)]


def line_of(name: str, points: dict[float, Score]) -> Series:
    estimates = [score.estimate for score in points.values()]
    return Series(
        name, list(points), [100 * e.value for e in estimates], [100 * e.low for e in estimates],
        [100 * e.high for e in estimates],
    )  # fmt: skip


def size_section(scores: StudyScores) -> list[Section]:
    """The mean score of each method against its parameters and its time per row."""
    results = scores.results
    pictures: list[Picture] = []
    rows = []
    shown: dict[str, None] = {}
    for setting in results.main_settings:
        selected, found = results.select(setting), scores.of(setting)
        by_name = found.scores.get(found.place, {})
        costs = {
            "parameters, millions": {name: mean_of(selected[name], "parameters", millions) for name in by_name},
            "milliseconds per row": {
                name: mean_of(selected[name], "rows_per_second", milliseconds) for name in by_name
            },
        }
        for label, cost in costs.items():
            series = []
            for name, score in by_name.items():
                x = cost[name]
                if (
                    x is not None and results.kind(name) != "control"
                ):  # cheap controls would squeeze all others together
                    series.append(line_of(name, {x: score}))
                    shown[name] = None
            if len(series) > 1:
                title = results.title(setting, f"against {label}")
                pictures.append(Points(title, basis(found, found.place), label, found.label, series=series, large=True))
        for name, score in by_name.items():
            numbers = ["" if cost[name] is None else f"{cost[name]:.3g}" for cost in costs.values()]
            rows.append([setting.task, name, f"{100 * score.estimate.value:.1f}", *numbers])
    if not pictures:
        return []
    text = (
        "The mean over domains against size and time. Time is that of the evaluation, in batches of test rows; one "
        "machine's times compare, those of several machines do not. Controls are in the table alone."
    )
    headers = ["task", "method", "score", "parameters, millions", "milliseconds per row"]
    table = NamedTable("Sizes and times", results.table(headers, rows, 2))
    return [Section("Score against size and time", [text], pictures, [table], legend=list(shown))]


def millions(parameters: float) -> float:
    return parameters / 1e6


def milliseconds(rows_per_second: float) -> float:
    return 1000 / rows_per_second


def mean_of(by_domain: ByDomain, score: str, change: Callable[[float], float]) -> float | None:
    """The mean of a changed score over seeds and domains; None if no cell has it."""
    values = [change(value) for part in by_domain.values() for value in part.scores(score) if value]
    return float(np.mean(values)) if values else None
