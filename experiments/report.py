"""Gather the evaluations of a run into results.json, report.md and report.html."""

from __future__ import annotations

from pathlib import Path

from metakd.cli import run
from metakd.evaluation.document import to_console, to_markdown
from metakd.evaluation.files import write_files
from metakd.evaluation.html import to_html
from metakd.evaluation.lineage import steps_behind
from metakd.evaluation.report import read_students, results_blocks, summarise
from metakd.evaluation.run_report import run_report
from metakd.manifests import json_text, to_jsonable


def main(out: Path, evaluations: str) -> None:
    """Write OUT/results.json, OUT/report.md and OUT/report.html, and print the report.

    Args:
        out: folder of the report; usually that of the run.
        evaluations: JSON files that evaluate.py wrote with --teacher, one per domain, separated by commas.
    """
    paths = [Path(name) for name in evaluations.split(",")]
    results = to_jsonable(summarise(read_students(paths), steps_behind(paths, out.parent)))
    blocks, report = results_blocks(results), run_report(results)
    write_files(out, {
        "results.json": json_text(results), "report.md": f"# Results\n\n{to_markdown(blocks)}",
        "report.html": to_html(report),
    })  # fmt: skip
    print(to_console(blocks))


if __name__ == "__main__":
    run(main)
