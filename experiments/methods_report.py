"""Compare students of one domain, each distilled by another method, in one table."""

from __future__ import annotations

from pathlib import Path

from metakd.cli import run
from metakd.evaluation.document import to_console, to_markdown
from metakd.evaluation.files import write_files
from metakd.evaluation.lineage import steps_behind
from metakd.evaluation.report import methods_blocks, read_students


def main(out: Path, evaluations: str) -> None:
    """Write a Markdown report with a row per student, and print it.

    Args:
        out: Markdown file.
        evaluations: JSON files that evaluate.py wrote with --teacher for the same rows, separated by commas.
    """
    paths = [Path(name) for name in evaluations.split(",")]
    blocks = methods_blocks(read_students(paths), steps_behind(paths, out.parent))
    write_files(out.parent, {out.name: to_markdown(blocks)})
    print(to_console(blocks))


if __name__ == "__main__":
    run(main)
