"""The table of all method files."""

from __future__ import annotations

from collections.abc import Mapping

from tabulate import tabulate

from metakd.methods.method import Method
from metakd.methods.stage import OUTPUTS, Schedule, Stage, Term

HEADERS = [
    "method", "paper", "prototypes", "teacher", "stage", "matches", "layers", "T", "row weight", "rows", "labels"
]  # fmt: skip


def methods_table(methods: Mapping[str, Method], papers: Mapping[str, str]) -> str:
    """A Markdown table of methods by name, one row per stage.

    Args:
        papers: arXiv number of each method's paper, "" for none.
    """
    lines = []
    for name, method in methods.items():
        paper = f"[{papers[name]}](https://arxiv.org/abs/{papers[name]})" if papers[name] else ""
        variant = method.prototypes.variant if method.prototypes else ""
        first = [f"[{name}]({name}.yaml)", paper, variant, method.teacher.kind]
        for number, stage in enumerate(method.stages):
            lines.append([*(first if number == 0 else ["", "", "", ""]), *stage_cells(stage)])
    return tabulate(lines, HEADERS, tablefmt="pipe", disable_numparse=True)


def stage_cells(stage: Stage) -> list[str]:
    matched = [term for term in stage.terms if term.feature != "label"]
    with_layers = [term for term in matched if term.feature not in (*OUTPUTS, "embedding", "transferable")]
    label = next((f"x {term.scale:g}" for term in stage.terms if term.feature == "label"), "no")
    return [
        stage.name + (f" ({stage.teacher} teacher)" if stage.teacher else ""),
        ", ".join(term_in_words(term) for term in matched) or "-",
        ", ".join(dict.fromkeys(str(term.layers) for term in with_layers)) or "-",
        ", ".join(temperature_in_words(term) for term in matched if term.feature == "logits") or "-",
        stage.row_weight + (" / rows" if stage.row_weight != "uniform" and stage.divide_by == "rows" else ""),
        ", ".join(stage.rows).replace("_", " "),
        label,
    ]


def term_in_words(term: Term) -> str:
    scale = "" if term.scale == 1 else f" x {term.scale:g}"
    return f"{term.feature} {term.loss}{scale}".replace("_", " ")


def temperature_in_words(term: Term) -> str:
    if isinstance(term.temperature, Schedule):
        return f"{term.temperature.start:g} to {term.temperature.end:g}"
    return f"{term.temperature:g}"
