"""Put the tables of studies into the documents that show them, and draw the curve of labels (docs/label_curve.svg)."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from metakd.cli import run
from metakd.evaluation.document import Table, to_markdown
from metakd.evaluation.figures import draw_file
from metakd.evaluation.pictures import Curves
from metakd.evaluation.sections.costs import line_of
from metakd.evaluation.sections.folds import fold_scores, folds_table
from metakd.evaluation.sections.scores import summary_table
from metakd.evaluation.sections.shares import shares_table
from metakd.evaluation.sections.translators import translators_table
from metakd.evaluation.study_results import read_results
from metakd.evaluation.study_scores import MEAN, StudyScores

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "experiments/FINDINGS.md", "experiments/translation/README.md"]
MARKED = re.compile(r"(<!-- study: (\S+) ?(methods|shares)? -->\n).*?(<!-- end of study -->)", re.DOTALL)
CURVE, CURVE_STUDY, ROWS = "docs/label_curve.svg", "experiments/results/studies/label_curve", 900  # rows of a domain


def main(check: bool = False) -> None:
    """Write every document anew whose tables or picture are not those of the studies' results.

    A table stands between `<!-- study: FOLDER -->` and `<!-- end of study -->`; the folder is that of the study. With
    `<!-- study: FOLDER methods -->` it shows the methods alone, and the reference's teacher; with
    `<!-- study: FOLDER shares -->` what known shares of the classes would give.

    Args:
        check: write nothing; the exit code is 1 if a document would change.
    """
    changed = dict(changes())
    for name, text in changed.items():
        print(f"{name}{' is not what the results say' if check else ''}")
        if not check:
            (ROOT / name).write_text(text, "utf-8")
    sys.exit(1 if check and changed else 0)


def changes() -> Iterator[tuple[str, str]]:
    """Name and new text of each file that is not what the results say."""
    for name, text in [*((name, document(name)) for name in DOCUMENTS), (CURVE, label_curve())]:
        place = ROOT / name
        if not place.is_file() or place.read_text("utf-8") != text:
            yield name, text


def document(name: str) -> str:
    """A document with the tables of its studies."""

    def marked(found: re.Match[str]) -> str:
        scores = scores_of(found[2])
        if found[3] == "shares":
            table = shares_table(scores.results)
        else:
            table = study_table(scores, methods_alone=found[3] == "methods")
        return f"{found[1]}{to_markdown([table]).strip()}\n{found[4]}"

    return MARKED.sub(marked, (ROOT / name).read_text("utf-8"))


@functools.cache  # several tables may be of one study
def scores_of(folder: str) -> StudyScores:
    return StudyScores(read_results(ROOT / folder))


def study_table(scores: StudyScores, methods_alone: bool) -> Table:
    results = scores.results
    if results.study.get("folds"):
        table = folds_table(fold_scores(scores))
    elif results.cells[0]["problem"] == "translation":
        table = translators_table(scores, results.main_settings[0])
    else:
        table = summary_table(scores)
    if not methods_alone:
        return table
    shown = {*results.methods, next(name for name in results.series if results.kind(name) == "teacher")}
    return table._replace(rows=[row for row in table.rows if shown & {*row}])


def label_curve() -> str:
    """Mean score over the domains against the number of labels, a line per method."""
    scores = scores_of(CURVE_STUDY)
    by_labels = {ROWS * setting.fraction: scores.of(setting) for setting in reversed(scores.results.settings)}
    names = scores.results.series
    points = {
        name: {labels: found.scores[MEAN][name] for labels, found in by_labels.items() if name in found.scores[MEAN]}
        for name in names
    }
    picture = Curves(
        "A new domain", "", "labels of the new domain", "accuracy, %",
        series=[line_of(name, of_labels) for name, of_labels in points.items()],
        x_ticks=[round(labels) for labels in by_labels], log_x=True,
    )  # fmt: skip
    return draw_file(picture, names)


if __name__ == "__main__":
    run(main)
