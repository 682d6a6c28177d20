"""Sections of a report about training: the losses of every term, and what was run with which code."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from metakd.evaluation.document import Table
from metakd.evaluation.pictures import Curves, NamedTable, Section, Series
from metakd.fingerprint import describe_code

History = dict[str, Any]  # of a training: a record per epoch, as `metakd.training.progress.Progress.summary` has it
Curve = tuple[str, str]  # name of a stage or "teacher"; name of a term or "dev score"


def curves_section(histories: Sequence[tuple[str, str, dict[str, History]]], basis: str) -> list[Section]:
    """Training curves of every term of every stage: a picture per term, a line per method.

    Args:
        histories: (task or "", method, histories by stage) of each trained model; equal names are averaged.
        basis: seeds and domains of the models.
    """
    records: dict[tuple[str, Curve], dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for task, method, stages in histories:
        for stage, history in stages.items():
            for term, values in curves_of(history).items():
                records[task, (stage, term)][method].append(values)
    pictures, rows = [], []
    for (task, (stage, term)), by_method in records.items():
        title = ", ".join(filter(None, [task, f"{stage}: {term}"]))
        lines: list[Series] = []
        for method, runs in by_method.items():
            mean = mean_of(runs)
            if all(line.y != mean for line in lines):  # methods may share a teacher
                lines.append(Series(method, list(range(1, len(mean) + 1)), mean))
            rows.append([title, method, str(len(mean)), f"{mean[0]:.4g}", f"{mean[-1]:.4g}", str(len(runs))])
        longest = max(len(line.x) for line in lines)
        ticks = range(1, longest + 1, 1 + (longest - 1) // 8)
        models = max(len(runs) for runs in by_method.values())
        about = f"{basis}; a line is the mean of {models} model{'s' * (models > 1)}"
        pictures.append(Curves(title, about, "epoch", "score" if term == DEV else "loss", series=lines, x_ticks=ticks))
    if not pictures:
        return []
    texts = [
        "A title names the stage of training and the term of its loss. "
        "The loss of a term is its mean over rows, as the method weighs rows, before the term's scale: compare the "
        "shape of lines, and heights only where terms and row weights are the same. Epochs are chosen by the dev score."
    ]
    table = Table(["curve", "method", "epochs", "first", "last", "models"], rows, text_columns=2)
    legend = list(dict.fromkeys(method for _, method, _ in histories))
    return [
        Section("Training curves", texts, list(pictures), [NamedTable("First and last values", table)], legend=legend)
    ]


DEV = "dev score"


def curves_of(history: History) -> dict[str, list[float]]:
    """The loss of every term and the dev score, epoch by epoch."""
    epochs = history["epochs"]
    if not epochs:
        return {}
    curves = {term: [epoch["losses"][term] for epoch in epochs] for term in epochs[0]["losses"]}
    if all("dev" in epoch for epoch in epochs):
        curves[DEV] = [epoch["dev"]["score"] for epoch in epochs]
    return curves


def mean_of(runs: Sequence[Sequence[float]]) -> list[float]:
    """The mean of curves, as long as the longest; an epoch is averaged over the curves that have it."""
    longest = max(map(len, runs))
    values = np.full((len(runs), longest), np.nan)
    for row, run in zip(values, runs, strict=True):
        row[: len(run)] = run
    return np.nanmean(values, axis=0).tolist()


def provenance_section(
    command: str, steps: Sequence[tuple[str, str]], study: dict[str, Any], cells: Sequence[dict[str, Any]]
) -> Section:
    """The commands, the study, the code, the versions and the machines behind a report.

    Args:
        command: that makes the study.
        steps: a kind of step and one of its commands.
        study: its settings.
        cells: with code, versions, machine and seconds.
    """
    kinds = {
        "code": lambda cell: describe_code(cell["code"]),
        "versions": lambda cell: ", ".join(f"{name} {version}" for name, version in cell["versions"].items()),
        "machine": lambda cell: cell["machine"],
        "device": lambda cell: cell.get("device", ""),
    }
    rows = []
    for kind, describe in kinds.items():
        counts: dict[str, int] = defaultdict(int)
        for cell in cells:
            counts[describe(cell)] += 1
        rows += [[kind, text, str(count)] for text, count in counts.items() if text]
    fingerprints = {cell["code"]["source"] for cell in cells}
    texts = [f"{command} makes these results again; finished ones are not repeated."]
    if len(fingerprints) > 1:
        texts.append(f"WARNING: {len(fingerprints)} versions of the code made these results.")
    tables = [
        NamedTable("Code, versions and machines", Table(["what", "value", "cells"], rows, text_columns=2), shown=True),
        NamedTable("The study", Table(["field", "value"], study_rows(study), text_columns=2)),
        NamedTable(
            "Seconds of the steps behind the cells; what several cells share counts once",
            Table(["step", "seconds"], [[kind, f"{value:.0f}"] for kind, value in seconds_of_steps(cells).items()]),
        ),
    ]
    if steps:
        rows = [[kind, step_command] for kind, step_command in steps]
        title = "A command of each kind of step; all commands stand in the first lines of the files in logs/"
        tables.insert(1, NamedTable(title, Table(["step", "command"], rows, text_columns=2)))
    return Section("How it was made", texts, tables=tables)


def seconds_of_steps(cells: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Seconds of all steps of each kind behind some cells, those that cells share counted once.

    A cell does not name its steps: they are taken as shared where cells of one seed give them the same seconds, which
    have a decimal. An evaluation belongs to one cell; short ones would often be mistaken for each other.
    """
    seconds: dict[str, float] = defaultdict(float)
    counted: set[tuple[Any, ...]] = set()
    for cell in {cell["key"]: cell for cell in cells}.values():
        for kind, value in cell["seconds"].items():
            step = (kind, value, cell["cell"]["seed"], cell["key"] if kind == "evaluation" else None)
            if step not in counted:
                counted.add(step)
                seconds[kind] += value
    return dict(seconds)


def study_rows(study: dict[str, Any]) -> list[list[str]]:
    """The fields of a study as rows of a table, each method in one of its own."""
    rows = [[name, json.dumps(value, ensure_ascii=False)] for name, value in study.items() if name != "methods"]
    for name, method in study["methods"].items():
        rows.append([f"method {name}", json.dumps(method, ensure_ascii=False)])
    return rows
