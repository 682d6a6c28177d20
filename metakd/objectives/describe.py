"""A stage's objective in words, as the log shows it before training."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from metakd.methods.stage import Stage
from metakd.objectives.terms import BoundTerm


def objective_line(terms: Sequence[BoundTerm], stage: Stage, partly_labelled: bool) -> str:
    """The objective, e.g. `sum over rows of expertise x (embedding/mse + 0.5 ...) / sum of expertise`."""
    total = " + ".join(term_in_words(b, partly_labelled) for b in terms)
    if stage.row_weight == "uniform":
        return f"mean over rows of {total}"
    denominator = f"sum of {stage.row_weight}" if stage.divide_by == "weights" else "number of rows"
    return f"sum over rows of {stage.row_weight} x ({total}) / {denominator}"


def term_in_words(b: BoundTerm, partly_labelled: bool) -> str:
    scale = "" if b.term.scale == 1 else f"{b.term.scale:g} "
    by_layer = b.match is not None and b.feature.by_layer
    layers = f" {' '.join(f'{t}-{s}' for t, s in b.pairs)}" if by_layer else ""
    ends = dict.fromkeys(f"{b.term.temperature_at(progress):g}" for progress in (0.0, 1.0))
    temperature = f" T={'->'.join(ends)}" if b.takes_temperature else ""
    rows = " of labelled rows" if b.term.feature == "label" and partly_labelled else ""
    return f"{scale}{b.term.feature}/{b.loss}{layers}{temperature}{rows}"


def layer_table(terms: Sequence[BoundTerm], student_layers: int) -> str:
    """Which teacher layers each student layer learns from: a line per layer, a column per term; "" without layers."""
    with_layers = [b for b in terms if b.match is not None and (b.feature.by_layer or b.feature.has_embedding_layer)]
    lines = []
    for layer in range(student_layers + 1):
        cells = [", ".join(str(t) for t, s in b.pairs if s == layer) or "-" for b in with_layers]
        if any(cell != "-" for cell in cells):
            lines.append([str(layer), *cells])
    if not lines:
        return ""
    headers = ["student layer", *(b.name for b in with_layers)]
    return tabulate(lines, headers, tablefmt="plain", stralign="right", disable_numparse=True)
