"""Report on a study: report.html and report.md, from the cells that compare.py wrote."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import yaml

from metakd.cli import run
from metakd.evaluation.expectations import read_expectations, unmet
from metakd.evaluation.files import write_files
from metakd.evaluation.html import to_html
from metakd.evaluation.markdown import report_to_markdown
from metakd.evaluation.sections.teachers import read_analyses
from metakd.evaluation.study_report import study_report
from metakd.evaluation.study_results import read_results

log = logging.getLogger(__name__)
LARGEST = 1_000_000  # bytes of report.html


def main(study_folder: Path, out: Path, examples: bool = False, check: Path | None = None) -> None:
    """Write OUT/report.html, which a browser opens without a network, OUT/report.md and OUT/study.yaml.

    Files of analyse_teacher.py in STUDY_FOLDER/analyses add pictures of row weights and domain features. With --check
    the exit code is 1 if a recipe stopped reproducing.

    Args:
        study_folder: that compare.py wrote, finished or not.
        out: folder of the report.
        examples: show the texts of rows; they are read from the tables. The report is then as private as the rows.
        check: YAML or JSON file, a list of expected scores: task, method, interval [low, high] and, where they differ
            from the defaults, domain (the mean over domains), metric (accuracy), fraction, exclude_domain, value.
    """
    expectations = read_expectations(check) if check is not None else []
    results = read_results(study_folder)
    analyses = read_analyses(study_folder)
    study_file = out / "study.yaml"
    command = f"python experiments/compare.py --study {study_file} --out {study_folder}"
    name, steps = study_folder.resolve().name, logged_commands(study_folder)
    report = study_report(name, results, analyses, command, steps, examples)
    page = to_html(report)
    study_text = yaml.safe_dump(results.study, sort_keys=False, allow_unicode=True)
    write_files(out, {study_file.name: study_text, "report.html": page, "report.md": report_to_markdown(report)})
    print(f"{report.verdict}\n{out / 'report.html'}, {out / 'report.md'}")
    if len(page.encode("utf-8", errors="replace")) > LARGEST:
        log.warning("report.html has %.1f MB; report on fewer methods or tasks at a time", len(page) / 1e6)
    lines = unmet(expectations, results)
    if lines:
        title = f"{len(lines)} of {len(expectations)} expected scores were not reached:"
        print(title, *lines, sep="\n  ", file=sys.stderr)
        sys.exit(1)
    if expectations:
        print(f"all {len(expectations)} expected scores were reached")


def logged_commands(study_folder: Path) -> list[tuple[str, str]]:
    """Each kind of step of a study, and the first command of it in the logs."""
    commands: dict[str, str] = {}
    for path in sorted((study_folder / "logs").glob("*.log")):
        with path.open(encoding="utf-8", errors="replace") as file:
            words = file.readline().split(maxsplit=2)  # time, machine, command
        if len(words) == 3:
            commands.setdefault(path.name.partition("-")[0], words[2].strip())
    return list(commands.items())


if __name__ == "__main__":
    run(main)
