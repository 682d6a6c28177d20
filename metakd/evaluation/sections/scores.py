"""Sections of a study's report about scores: by domain, differences from the reference, ablations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metakd.evaluation.document import Table
from metakd.evaluation.pictures import Dots, NamedTable, Picture, Section
from metakd.evaluation.statistics import Comparison
from metakd.evaluation.study_results import Setting, StudyResults
from metakd.evaluation.study_scores import MEAN, Score, SettingScores, StudyScores

MOST_CHANGES = 3  # settings that an ablation changes
MOST_PICTURES = 16  # of the domains of a task
ARROW = "An arrow stands for a value outside the picture."


def basis(scores: SettingScores, place: str) -> str:
    """How many seeds and rows the scores in a domain, or the means over domains, stand on."""
    estimate = next(iter(scores.scores[place].values())).estimate
    seeds = f"{estimate.seeds} seed{'s' if estimate.seeds > 1 else ''}, {estimate.rows} test rows"
    return f"{seeds} in {len(scores.domains)} domains" if place == MEAN else seeds


def by_domain_section(scores: StudyScores, settings: Sequence[Setting], title: str, text: str) -> list[Section]:
    """A dot with an interval for every method, in a picture for the mean over domains and one per domain."""
    results = scores.results
    pictures: list[Picture] = []
    rows, left_out = [], []
    for setting in settings:
        found = scores.of(setting)
        limits = limits_of(
            score
            for by_name in found.scores.values()
            for name, score in by_name.items()
            if results.kind(name) != "control"
        )
        for place, by_name in list(found.scores.items())[:MOST_PICTURES]:
            title_of_picture = results.title(setting, place)
            pictures.append(score_dots(title_of_picture, basis(found, place), by_name, found.label, limits))
        for place, by_name in found.scores.items():
            rows += [[setting.task, place, name, *score_cells(score)] for name, score in by_name.items()]
        if found.left_out:
            left_out.append(f"{setting.task}: left out, since results are missing: {', '.join(found.left_out)}")
    if not rows:
        return []
    dots = "Coloured marks are means over seeds, thin marks single seeds, bars 95 % intervals over seeds and test rows."
    if any(len(scores.of(setting).seeds) == 1 for setting in settings):
        dots = "One seed: bars are 95 % intervals over test rows alone, and do not cover the luck of training."
    headers = ["task", "domain", "method", "score", "95 % interval", "deviation over seeds"]
    table = NamedTable("All scores", results.table(headers, rows, 3))
    return [Section(title, [*filter(None, [text]), f"{dots} {ARROW}"], pictures, [table], lines=left_out)]


def summary_table(scores: StudyScores) -> Table:
    """The mean over domains of every method, on the seeds that all have, and its difference from the reference."""
    results = scores.results
    rows = []
    for setting in results.settings:
        found = scores.of(setting)
        compared = {comparison.method: comparison for comparison in found.comparisons}
        for name, score in found.scores.get(found.place, {}).items():
            score_text, interval, _ = score_cells(score)
            start = [setting.task, name, f"{100 * setting.fraction:g}", str(score.estimate.seeds)]
            rows.append([*start, score_text, interval, *difference_cells(compared.get(name))])
    headers = ["task", "method", "labels, %", "seeds", "mean", "95 % interval", f"minus {results.reference}",
               "95 % interval", "verdict"]  # fmt: skip
    constant = {i for i in (0, 2) if len({row[i] for row in rows}) == 1}  # columns that say the same in each row
    kept = [i for i in range(len(headers)) if i not in constant]
    return Table([headers[i] for i in kept], [[row[i] for i in kept] for row in rows], 1 + (0 not in constant))


def difference_cells(comparison: Comparison | None) -> list[str]:
    """Difference, interval and verdict for a table; nothing of the reference itself, and no verdict on one seed."""
    if comparison is None:
        return ["", "", ""]
    verdict = comparison.verdict.lower() if comparison.seeds > 1 else ""
    return [points(comparison.difference), f"{points(comparison.low)} to {points(comparison.high)}", verdict]


def score_cells(score: Score) -> list[str]:
    estimate = score.estimate
    deviation = "" if estimate.seed_deviation is None else f"{100 * estimate.seed_deviation:.1f}"
    return [f"{100 * estimate.value:.1f}", f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}", deviation]


def score_dots(
    title: str, basis: str, by_name: dict[str, Score], x_label: str, limits: tuple[float, float] | None
) -> Dots:
    found = list(by_name.values())
    return Dots(
        title, basis, x_label, names=list(by_name), values=[100 * score.estimate.value for score in found],
        intervals=[(100 * score.estimate.low, 100 * score.estimate.high) for score in found],
        single_values=[[100 * value for value in score.by_seed] for score in found], limits=limits,
    )  # fmt: skip


def limits_of(scores: Any) -> tuple[float, float] | None:
    """Ends of an axis that shows these scores and their intervals, in percent; None if there are none."""
    estimates = [score.estimate for score in scores]
    if not estimates:
        return None
    low, high = min(e.low for e in estimates), max(e.high for e in estimates)
    extra = max(0.05 * (high - low), 0.005)
    return 100 * (low - extra), 100 * (high + extra)


def comparison_section(scores: StudyScores) -> list[Section]:
    """Differences of every method from the reference, with verdicts."""
    results, reference = scores.results, scores.results.reference
    pictures: list[Picture] = []
    rows, domain_rows = [], []
    for setting in results.main_settings:
        found = scores.of(setting)
        if found.comparisons:
            pictures.append(difference_dots(results, setting, found, found.comparisons))
        rows += [[setting.task, *comparison_cells(comparison)] for comparison in found.comparisons]
        domain_rows += [[setting.task, c.domain, *comparison_cells(c)] for c in found.domain_comparisons]
    if not rows:
        return []
    texts = [
        f"Points of each method minus {reference}, on the same test rows and seeds, the mean over domains. Bars are "
        f"95 % intervals of the single difference. {ARROW}",
        f"Verdicts speak of the method in the row: WORSE means that {reference} is better. "
        "BETTER and WORSE hold for all comparisons of a task together: where no method differs from the reference, at "
        "most 5 % of such studies give any such verdict (p is corrected by Holm's method). NOT TOLD APART "
        "does not mean equal: such a study finds the smallest difference of the last column in 80 % of cases, and "
        "smaller ones less often.",
    ]
    tables_of = [scores.of(setting) for setting in results.main_settings]
    compared = [c for found in tables_of for c in (*found.comparisons, *found.domain_comparisons)]
    if any(map(only_alone, compared)):
        texts.append(
            "In some rows of the tables the interval leaves out 0, and the verdict is still NOT TOLD APART: the "
            "interval looks at one comparison alone, while the verdict allows for the number of comparisons, since of "
            "many comparisons one differs by chance sooner. The verdict counts."
        )
    headers = ["method", "verdict", "difference", "95 % interval", "p, corrected", "smallest difference found"]
    tables = [NamedTable("Verdicts", results.table(["task", *headers], rows, 3), shown=True)]
    if domain_rows:
        title = "Verdicts by domain, corrected for all domains and methods of the task"
        tables.append(NamedTable(title, results.table(["task", "domain", *headers], domain_rows, 4)))
    return [Section(f"Compared with {reference}", texts, pictures, tables)]


def only_alone(comparison: Comparison) -> bool:
    """Whether the interval leaves out 0, but the corrected p gives no verdict."""
    leaves_out_0 = not comparison.low <= 0 <= comparison.high
    return comparison.seeds > 1 and comparison.verdict == "NOT TOLD APART" and leaves_out_0


def difference_dots(
    results: StudyResults, setting: Setting, scores: SettingScores, comparisons: Sequence[Comparison]
) -> Dots:
    models = [c for c in comparisons if results.kind(c.method) != "control"] or comparisons
    low, high = min(c.low for c in models), max(c.high for c in models)
    extra = max(0.08 * (high - low), 0.003)
    return Dots(
        results.title(setting, scores.place), basis(scores, scores.place), f"points above {results.reference}",
        names=[c.method for c in comparisons], values=[100 * c.difference for c in comparisons],
        intervals=[(100 * c.low, 100 * c.high) for c in comparisons], zero_line=True,
        limits=(100 * min(low - extra, -0.005), 100 * max(high + extra, 0.005)),
    )  # fmt: skip


def comparison_cells(comparison: Comparison) -> list[str]:
    p, smallest = comparison.p_holm, comparison.smallest_difference
    return [
        comparison.method, comparison.verdict, points(comparison.difference),
        f"{points(comparison.low)} to {points(comparison.high)}", "below 0.001" if p < 0.001 else f"{p:.3f}",
        smallest_text(smallest),
    ]  # fmt: skip


def smallest_text(difference: float | None) -> str:
    if difference is None or difference > 1:  # no difference of fractions is that large
        return "needs more seeds"
    return f"{100 * difference:.1f}" if difference else "equal in all rows"  # nothing varies, so nothing is known


def points(difference: float) -> str:
    """A difference of fractions in points, with its sign; no minus before 0.0."""
    return f"{round(100 * difference, 1) + 0.0:+.1f}"


def ablations_section(scores: StudyScores) -> list[Section]:
    """The methods that are the reference with a few changed values, as differences from it."""
    results = scores.results
    changes = {
        name: changed_values(results.method_settings(results.reference), results.method_settings(name))
        for name in results.methods
        if name != results.reference and results.student(name) == results.student(results.reference)
    }
    ablations = {name: changed for name, changed in changes.items() if 0 < len(changed) <= MOST_CHANGES}
    pictures: list[Picture] = []
    rows = []
    for setting in results.main_settings:
        found = scores.of(setting)
        comparisons = sorted((c for c in found.comparisons if c.method in ablations), key=lambda c: c.difference)
        if comparisons:
            pictures.append(difference_dots(results, setting, found, comparisons))
        for c in comparisons:
            change = "; ".join(ablations[c.method])
            rows.append([setting.task, c.method, change, c.verdict, points(c.difference)])
    if not rows:
        return []
    text = (
        f"Each of these methods is {results.reference} with a changed value. Left of the line, the change costs "
        "points: what was changed is of use. The comparisons are those of the section above."
    )
    table = results.table(["task", "method", "changed", "verdict", "difference"], rows, 4)
    return [Section("Ablations", [text], pictures, [NamedTable("Changed values", table, shown=True)])]


def changed_values(one: Any, other: Any) -> list[str]:
    """The values in which two nested settings differ, in words; a part that only one of them has is one change."""
    values, others = flatten(one), flatten(other)
    changes = [
        f"{place}: {values[place]} → {others[place]}"
        for place in values
        if values[place] != others.get(place, values[place])
    ]
    for word, missing in (("without", values.keys() - others.keys()), ("with", others.keys() - values.keys())):
        changes += sorted({f"{word} {place.rpartition('.')[0] or place}" for place in missing})
    return changes


def flatten(settings: Any, place: str = "") -> dict[str, Any]:
    """The values of nested settings by their place, e.g. {"stages.prediction.epochs": 10}.

    Items of a list are placed by their name or feature, if all have one.
    """
    if isinstance(settings, list):
        names = [(item.get("name") or item.get("feature")) if isinstance(item, dict) else None for item in settings]
        if None in names or len(set(names)) < len(names):
            return {place: settings}
        settings = dict(zip(names, settings, strict=True))
    if not isinstance(settings, dict):
        return {place: settings}
    return {
        inner_place: value
        for name, part in settings.items()
        for inner_place, value in flatten(part, f"{place}.{name}".lstrip(".")).items()
    }
