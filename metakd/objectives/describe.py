"""Objectives in words: a stage's before it is trained, and the table of all methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metakd.methods import Method, Schedule, Stage, Term
from metakd.objectives.features import LAYERED, SOFT
from metakd.objectives.terms import BoundTerm


def formula(terms: Sequence[BoundTerm], stage: Stage, partly: bool) -> str:
    """The objective in one line, e.g. `sum over rows of expertise x (embedding/mse + 0.5 ...) / sum of expertise`.

    Args:
        partly: some rows have no label.
    """
    parts = []
    for b in terms:
        scale = "" if b.term.scale == 1 else f"{b.term.scale:g} "
        layers = f" {' '.join(f'{t}-{s}' for t, s in b.pairs)}" if b.term.feature in LAYERED else ""
        soft = b.term.feature == "logits" and b.loss in SOFT[b.problem]
        ends = [b.term.temperature_at(share) for share in (0.0, 1.0)]
        heat = f" T={'->'.join(f'{end:g}' for end in dict.fromkeys(ends))}" if soft else ""
        over = " of labelled rows" if b.term.feature == "label" and partly else ""
        parts.append(f"{scale}{b.term.feature}/{b.loss}{layers}{heat}{over}")
    total = " + ".join(parts)
    if stage.row_weight == "uniform":
        return f"mean over rows of {total}"
    divided = f"sum of {stage.row_weight}" if stage.normalised else "number of rows"
    return f"sum over rows of {stage.row_weight} x ({total}) / {divided}"


def layer_table(terms: Sequence[BoundTerm], student_layers: int) -> str:
    """Which teacher layer each student layer learns from, a line per layer, a column per term."""
    shown = [b for b in terms if b.pairs]
    if not shown:
        return ""
    lines = [["student layer", *(b.name for b in shown)]]
    for layer in range(student_layers + 1):
        cells = [", ".join(str(t) for t, s in b.pairs if s == layer) or "-" for b in shown]
        if any(cell != "-" for cell in cells):
            lines.append([str(layer), *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def methods_table(methods: Mapping[str, Method], papers: Mapping[str, str]) -> str:
    """A Markdown table of methods by name: a row per stage.

    Args:
        papers: arXiv number of each method's paper, "" for none.
    """
    lines = [
        "| method | paper | stage | teacher | matches | layers | T | row weight | rows shown | label term |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, method in methods.items():
        for i, stage in enumerate(method.stages):
            matched = [term for term in stage.terms if term.feature != "label"]
            hard = next((f"CE x {term.scale:g}" for term in stage.terms if term.feature == "label"), "no")
            cells = [
                f"[{name}]({name}.yaml)" if i == 0 else "",
                f"[{papers[name]}](https://arxiv.org/abs/{papers[name]})" if i == 0 and papers[name] else "",
                stage.name,
                teacher_in_words(method, stage),
                ", ".join(in_words(term) for term in matched) or "-",
                ", ".join(dict.fromkeys(str(term.layers) for term in matched if term.feature in LAYERED)) or "-",
                ", ".join(temperature_in_words(term) for term in matched if term.feature == "logits") or "-",
                stage.row_weight + ("" if stage.normalised else ", not normalised"),
                ", ".join(stage.rows).replace("_", " "),
                hard,
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def in_words(term: Term) -> str:
    scale = "" if term.scale == 1 else f" x {term.scale:g}"
    return f"{term.feature} {term.loss}{scale}".replace("_", " ")


def temperature_in_words(term: Term) -> str:
    if isinstance(term.temperature, Schedule):
        return f"{term.temperature.start:g} to {term.temperature.end:g}"
    return f"{term.temperature:g}"


def teacher_in_words(method: Method, stage: Stage) -> str:
    if not (stage.needs_logits or stage.needs_inside):
        return "none"
    if stage.teacher is not None:
        return stage.teacher
    return "any, or `--logits`" if not stage.needs_inside else "one"
