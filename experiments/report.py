"""Gather the evaluations of a run into results.json and report.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from metakd.cli import run
from metakd.errors import InputError
from metakd.evaluation.report import escape, markdown, plain, steps_markdown, summarise
from metakd.manifests import MANIFEST, write_json


def main(runs: Path, evaluations: str) -> None:
    """Write RUNS/results.json and RUNS/report.md, and print the table.

    Args:
        runs: folder of the run.
        evaluations: JSON files that evaluate.py wrote with --teacher, one per domain, separated by commas.
    """
    found = []
    for path in map(Path, evaluations.split(",")):
        if not path.is_file():
            raise InputError(f"--evaluations: no file {path}; run experiments/run_genre.sh first")
        found.append(json.loads(path.read_text("utf-8")))
        if "teacher" not in found[-1]:
            raise InputError(f"--evaluations: {path} was made without --teacher")
    made_by = json.loads((Path(found[0]["model"]["path"]) / MANIFEST).read_text("utf-8"))
    results = summarise(found, {"resolved": made_by["resolved"], "versions": made_by["versions"]}, steps(runs))
    config = made_by["resolved"]
    seed, student = config["task"]["training"]["seed"], escape(str(config["task"]["student"]))
    stages = ", ".join(stage["name"] for stage in config["method"]["stages"])
    text = (
        "# Results\n\n"
        f"Test scores in percent; accuracies with 95 % Wilson intervals. Seed {seed}, {results['made'][:10]}, "
        f"student: {student}, stages: {escape(stages)}. One seed: differences within the intervals prove nothing.\n\n"
        f"{markdown(results)}\n\n{steps_markdown(results['steps'])}\n"
    )
    write_json(runs / "results.json", results)
    (runs / "report.md").write_text(text, "utf-8")
    print(plain(results))


def steps(runs: Path) -> list[dict[str, Any]]:
    """What each step of the run took, in the order in which they ended."""
    manifests = [*runs.rglob(MANIFEST), *runs.rglob(f"*.{MANIFEST}")]
    found = []
    for path in sorted(manifests, key=lambda path: path.stat().st_mtime):
        content = json.loads(path.read_text("utf-8"))
        if "seconds" not in content or {"methods", "few_labels"} & set(path.relative_to(runs).parts):
            continue  # unfinished, or of another comparison
        name = path.parent if path.name == MANIFEST else path.with_name(path.name.removesuffix(f".{MANIFEST}"))
        took = {key: content[key] for key in ("seconds", "peak_memory_mb")}
        found.append({"name": name.relative_to(runs).as_posix(), **took})
    return found


if __name__ == "__main__":
    run(main)
