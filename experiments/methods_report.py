"""A table of students of one domain, each distilled by another method."""

from __future__ import annotations

import json
from pathlib import Path

from metakd.cli import run
from metakd.errors import InputError
from metakd.evaluation.report import methods_markdown
from metakd.manifests import MANIFEST


def main(evaluations: str, out: Path) -> None:
    """Write and print a Markdown table: a row per student, from evaluations and the manifests of the students.

    Args:
        evaluations: JSON files that evaluate.py wrote with --teacher on the same table, separated by commas.
        out: Markdown file.
    """
    found = {}
    for path in map(Path, evaluations.split(",")):
        if not path.is_file():
            raise InputError(f"--evaluations: no file {path}; make it with experiments/evaluate.py")
        evaluation = json.loads(path.read_text("utf-8"))
        if "teacher" not in evaluation:
            raise InputError(f"--evaluations: {path} was made without --teacher")
        found[path.stem] = evaluation, json.loads((Path(evaluation["model"]["path"]) / MANIFEST).read_text("utf-8"))
    tables = {(evaluation["table"], evaluation["domain"]) for evaluation, _ in found.values()}
    if len(tables) > 1:
        raise InputError(f"--evaluations are of different rows: {sorted(tables)}")
    text = methods_markdown(found)
    out.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    run(main)
