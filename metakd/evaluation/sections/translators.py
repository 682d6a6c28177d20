"""The section of a study's report that shows translators as their field does: BLEU of both searches, speed and size."""

from __future__ import annotations

import numpy as np

from metakd.evaluation.document import Table
from metakd.evaluation.pictures import NamedTable, Section
from metakd.evaluation.sections.scores import difference_cells
from metakd.evaluation.study_results import ByDomain, Setting
from metakd.evaluation.study_scores import StudyScores

HEADERS = ["method", "seeds", "BLEU, greedy", "difference", "95 % interval", "verdict", "BLEU, beam 5", "chrF",
           "length ratio", "parameters", "sentences/s", "with beam 5"]  # fmt: skip


def translators_section(scores: StudyScores) -> list[Section]:
    """A table for each task that is a translation."""
    tables = []
    signatures: dict[str, None] = {}
    for setting in scores.results.main_settings:
        by_domain = next(iter(scores.results.select(setting).values()))
        cell = next(iter(by_domain.values())).cells[0]
        if cell["problem"] == "translation":
            tables.append(NamedTable(f"Translators of {setting.task}", translators_table(scores, setting), shown=True))
            signatures |= dict.fromkeys(cell["signatures"].values())
    if not tables:
        return []
    text = (
        f"Means over seeds and domains; differences from {scores.results.reference} are of greedy translations, as "
        "are their intervals and verdicts. Sentences per second are those of one thread."
    )
    return [Section("Translators", [text, f"sacreBLEU's signatures: {', '.join(signatures)}"], tables=tables)]


def translators_table(scores: StudyScores, setting: Setting) -> Table:
    """A row for each method of a task; those that are left out of the comparison have no difference."""
    results = scores.results
    compared = {c.method: c for c in scores.of(setting).comparisons}
    rows = []
    for name, by_domain in results.select(setting).items():
        seeds = len({seed for part in by_domain.values() for seed in part.seeds})
        rows.append([
            name, str(seeds), mean(by_domain, "bleu"), *difference_cells(compared.get(name)),
            mean(by_domain, "beam_bleu"), mean(by_domain, "chrf"), mean(by_domain, "length_ratio", "{:.3f}"),
            mean(by_domain, "parameters", "{:,.0f}"), mean(by_domain, "rows_per_second", "{:.0f}"),
            mean(by_domain, "beam_rows_per_second", "{:.0f}"),
        ])  # fmt: skip
    return Table(HEADERS, rows)


def mean(by_domain: ByDomain, score: str, form: str = "{:.1f}") -> str:
    """A score's mean over seeds and domains; empty if no cell has it."""
    values = [value for part in by_domain.values() for value in part.scores(score)]
    return form.format(np.mean(values)) if values else ""
