"""A stage's objective in words, printed before it is trained."""

from __future__ import annotations

from collections.abc import Sequence

from metakd.methods import Stage
from metakd.objectives.features import LAYERED, SOFT
from metakd.objectives.terms import BoundTerm


def formula(terms: Sequence[BoundTerm], stage: Stage) -> str:
    """The objective in one line, e.g. `sum over rows of expertise x (embedding/mse + 0.5 ...) / sum of expertise`."""
    parts = []
    for b in terms:
        scale = "" if b.term.scale == 1 else f"{b.term.scale:g} "
        layers = f" {' '.join(f'{t}-{s}' for t, s in b.pairs)}" if b.term.feature in LAYERED else ""
        soft = b.term.feature == "logits" and b.loss in SOFT[b.problem]
        ends = [b.term.temperature_at(share) for share in (0.0, 1.0)]
        heat = f" T={'->'.join(f'{end:g}' for end in dict.fromkeys(ends))}" if soft else ""
        parts.append(f"{scale}{b.term.feature}/{b.loss}{layers}{heat}")
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
