"""Run a study: every method on every task, domain and seed, each step once, each result in a file of its own."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Literal

from metakd.cli import run
from metakd.errors import InputError
from metakd.evaluation.document import to_console
from metakd.fingerprint import code_fingerprint
from metakd.paths import folder_name, output_path
from metakd.studies.cells import cell_path, collect_cell, failed_cell, is_study, read_cell, write_cell, write_study
from metakd.studies.engines import LocalEngine, RayEngine, available_cores, visible_gpus
from metakd.studies.estimate import plan_blocks
from metakd.studies.grid import plan_study
from metakd.studies.plan import PlannedAnalysis, PlannedCell, StudyStep
from metakd.studies.scheduler import Engine, Job, run_plan
from metakd.studies.study import Study
from metakd.studies.translations import of_translations, plan_translations

log = logging.getLogger(__name__)
ROOT = Path(os.path.relpath(Path(__file__).parent.parent))


def main(
    study: Study,
    out: Path,
    workers: int = 1,
    engine: Literal["local", "ray"] = "local",
    dry_run: bool = False,
    remake: bool = False,
) -> None:
    """Run what is missing of a study, and write one file per result to OUT/cells.

    OUT/analyses tells what a teacher does with its training rows, for the report: of each task the reference's teacher
    of the first seed. That costs a pass over at most 5000 rows, so it is always done; more teachers look much alike.

    A killed study goes on when it is called again: finished cells and steps are not repeated. A cell whose step fails
    is reported with the step's log, does not stop the others, and is tried again by the next call.

    Args:
        study: study file (YAML); any field can be overridden, e.g. --study.seeds '[1]'.
        out: folder of the study: cells/, analyses/, logs/, runs/ (models), study.json.
        workers: steps at a time on each machine, which share its cores.
        engine: "local" runs processes of this machine, "ray" tasks of a Ray cluster (RAY_ADDRESS).
        dry_run: print the commands and nothing else.
        remake: make results and steps anew that other code made.
    """
    if workers < 1:
        raise InputError(f"--workers is {workers}; it must be at least 1")
    require_study_folder(out)
    planned_by = plan_translations if of_translations(study) else plan_study
    plan, source = planned_by(study, out), code_fingerprint()["source"]
    results = {path.name: read_cell(path) for path in (out / "cells").glob("*.json.gz")}
    finished = {name: cell for name, cell in results.items() if cell is not None and cell["failed"] is None}
    other_code = [name for name, cell in finished.items() if cell["code"]["source"] != source]
    kept = set(finished).difference(other_code if remake else [])
    unfinished = plan.unfinished(lambda planned: cell_path(out, planned.key).name in kept)
    make_job = partial(job_of, out=out, threads=max(1, available_cores() // workers), remake=remake)
    if dry_run:
        for job in map(make_job, unfinished.steps.values()):
            print(f"OMP_NUM_THREADS={job.threads} {shlex.join(job.command)}")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_study(out, study, plan)
    print(to_console(plan_blocks(plan, unfinished, [*finished.values()], workers)))
    if other_code and not remake:
        log.warning("other code made %d of the finished results; --remake true makes them anew", len(other_code))
    failures: list[str] = []

    def fail(planned: PlannedCell | PlannedAnalysis, step: StudyStep, message: str) -> None:
        step_log = make_job(step).log
        if isinstance(planned, PlannedCell):
            write_cell(out, failed_cell(planned, step, step_log, message))
        failures.append(f"{planned.title}: {message} ({step_log})")

    def finish(planned: PlannedCell | PlannedAnalysis) -> None:
        if isinstance(planned, PlannedAnalysis):
            return
        steps = [plan.steps[path] for path in planned.steps]
        try:
            write_cell(out, collect_cell(planned, steps))
            log.info("finished: %s", planned.title)
        except InputError as error:
            fail(planned, steps[-1], str(error))

    run_plan(unfinished, make_job, make_engine(engine, workers), finish, fail)
    if failures:
        print(f"\n{len(failures)} results failed:", *failures, sep="\n  ", file=sys.stderr)
        sys.exit(1)


def require_study_folder(out: Path) -> None:
    """Refuse a folder that holds anything and no study.

    Raises:
        InputError: it is a file, the current folder, or another program's.
    """
    place = output_path(out)
    if place.exists() and not place.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    if place.exists() and any(place.iterdir()) and not is_study(place):
        raise InputError(f"--out {out} holds files and no study; choose another folder")


def make_engine(name: str, workers: int) -> Engine:
    gpus = visible_gpus()
    return LocalEngine(workers, gpus) if name == "local" else RayEngine(min(1.0, len(gpus) / workers))


def job_of(step: StudyStep, out: Path, threads: int, remake: bool) -> Job:
    """A step as a command with its log.

    Args:
        out: folder of the study.
        threads: of a step that trains.
    """
    place = Path(*step.out.relative_to(out).parts[1:])
    log_file = out / "logs" / f"{folder_name('-'.join([step.kind, *place.parts]))}.log"
    # Scores and speed are measured on one thread, so that the speeds of all models compare.
    one_thread = step.kind in ("evaluation", "control", "translation")
    return Job(f"{step.kind} {place}", tuple(command(step, remake)), log_file, 1 if one_thread else threads)


def command(step: StudyStep, remake: bool) -> list[str]:
    """The command line of a step."""
    out, domain = ["--out", str(step.out)], f"--domain={step.selection.domain}"
    anew = ["--remake", "true"] * remake
    match step.kind:
        case "check":
            return [*script("experiments/check_task.py"), *step.task, *step.method]
        case "embeddings":
            return [*script("data_prep/extract_embeddings.py"), *step.task, *out, *anew]
        case "weights":
            embeddings = ["--embeddings", str(step.embeddings)]
            arguments = [*step.task, *step.method, *embeddings, *step.selection.options()]
            return [*script("data_prep/prototype_weights.py"), *arguments, *out, *anew]
        case "teacher":
            arguments = [*step.task, *step.method, f"--task.train={step.table}", *step.selection.options()]
            return [*script("experiments/train_teacher.py"), *arguments, *out, *anew]
        case "student":
            folders = ", ".join(map(str, step.teachers))
            teachers = [f"--teacher={f'[{folders}]' if len(step.teachers) > 1 else folders}"] * bool(folders)
            arguments = [*step.task, *step.method, f"--task.train={step.table}", *step.selection.options(), *teachers]
            return [*script("experiments/distill.py"), *arguments, f"--name={step.name}", *out, *anew]
        case "control":
            embeddings = [f"--embeddings={step.embeddings}"] * (step.embeddings is not None)
            arguments = [f"--control={step.name}", *step.task, *step.selection.options(), *embeddings]
            return [*script("experiments/control.py"), *arguments, *out, *anew]
        case "evaluation":
            arguments = [f"--model={step.model}", f"--table={step.table}", domain, "--rows=true", *step.options]
            return [*script("experiments/evaluate.py"), *arguments, *out, *anew]
        case "analysis":
            arguments = [*step.task, f"--task.train={step.table}", f"--teacher={step.model}"]
            embeddings = [f"--embeddings={step.embeddings}"]
            return [*script("experiments/analyse_teacher.py"), *arguments, *embeddings, *out, *anew]
        case "translator" | "teacher translator":
            return [*script("experiments/train_translator.py"), *step.task, *step.method, *step.options, *out, *anew]
        case "targets" | "translation":
            return [*script("experiments/translate.py"), *step.options, *out, *anew]
        case "scores":
            return [*script("experiments/evaluate_translation.py"), *step.options, *out, *anew]


def script(path: str) -> list[str]:
    return [sys.executable, str(ROOT / path)]


if __name__ == "__main__":
    run(main)
