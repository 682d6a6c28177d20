"""Put what the studies' results say into the documents: tables, reports, times, and the curve of labels."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from metakd.cli import run
from metakd.evaluation.document import Table, to_markdown
from metakd.evaluation.figures import draw_file
from metakd.evaluation.markdown import short_cells
from metakd.evaluation.pictures import Curves
from metakd.evaluation.sections.costs import line_of
from metakd.evaluation.sections.folds import fold_scores, folds_table
from metakd.evaluation.sections.scores import comparison_section, summary_table
from metakd.evaluation.sections.shares import shares_table
from metakd.evaluation.sections.training import seconds_of_steps
from metakd.evaluation.sections.translators import translators_section, translators_table
from metakd.evaluation.study_results import read_results
from metakd.evaluation.study_scores import MEAN, StudyScores
from metakd.studies.cells import read_plan

ROOT = Path(__file__).resolve().parent.parent
STUDIES = "experiments/results/studies"
DOCUMENTS = [
    "README.md", "experiments/FINDINGS.md", "experiments/studies/README.md", "experiments/translation/README.md",
]  # fmt: skip
TIMES = re.compile(r"(<!-- times -->\n).*?(<!-- end of times -->)", re.DOTALL)
MARKED = re.compile(r"(<!-- study: (\S+) ?(methods|shares)? -->\n).*?(<!-- end of study -->)", re.DOTALL)
CURVE, CURVE_STUDY, ROWS = "docs/label_curve.svg", f"{STUDIES}/label_curve", 900  # rows of a domain


def main(check: bool = False) -> None:
    """Write every document and report anew that is not what the studies' results say.

    A table stands between `<!-- study: FOLDER -->` and `<!-- end of study -->`; the folder is that of the study. With
    `<!-- study: FOLDER methods -->` it shows the methods alone, and the reference's teacher; with
    `<!-- study: FOLDER shares -->` what known shares of the classes would give. Between `<!-- times -->` and
    `<!-- end of times -->` stands what each study took.

    Args:
        check: write nothing; the exit code is 1 if something would change.
    """
    changed, reports = dict(changes()), stale_reports()
    for name in [*changed, *reports]:
        print(f"{name}{' is not what the results say' if check else ''}")
    if check:
        sys.exit(1 if changed or reports else 0)
    for name, text in changed.items():
        (ROOT / name).write_text(text, "utf-8")
    for folder in reports:
        command = ["experiments/study_report.py", "--study_folder", str(Path(folder).parent), "--out", folder]
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


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

    text = MARKED.sub(marked, (ROOT / name).read_text("utf-8"))
    return TIMES.sub(lambda found: f"{found[1]}{to_markdown([times_table()]).strip()}\n{found[2]}", text)


def stale_reports() -> list[str]:
    """Folders of the reports, one beside each finished study's results, that lack a table of its differences."""
    stale = []
    for folder in study_folders():
        if open_cells(folder):
            continue
        report, scores = ROOT / folder / "report/report.md", scores_of(folder)
        tables = [t.table for s in [*comparison_section(scores), *translators_section(scores)] for t in s.tables]
        text = report.read_text("utf-8") if report.is_file() else ""
        if any(to_markdown([short_cells(table)]).strip() not in text for table in tables):
            stale.append(f"{folder}/report")
    return stale


def study_folders() -> list[str]:
    return [path.parent.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob(f"{STUDIES}/*/study.json"))]


def open_cells(folder: str) -> int:
    return len(read_plan(ROOT / folder)["cells"]) - len(scores_of(folder).results.cells)


def times_table() -> Table:
    """How many results each study has, how many it lacks, and the hours of one process that its steps took."""
    rows = []
    for folder in study_folders():
        results = scores_of(folder).results
        hours = sum(seconds_of_steps(results.cells).values()) / 3600
        rows.append([Path(folder).name, str(len(results.cells)), str(open_cells(folder)), f"{hours:.1f}"])
    return Table(["study", "results", "not run", "hours"], rows)


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
