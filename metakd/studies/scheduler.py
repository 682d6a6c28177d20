"""Run the steps of a plan, in order of what they need, on an engine: local processes, or a Ray cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from metakd.studies.plan import Plan, PlannedAnalysis, PlannedCell, StudyStep

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A command to run.

    Args:
        name: in words.
        log: file for what it prints.
        threads: of OpenMP, as OMP_NUM_THREADS.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    threads: int


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        returncode: of the process; negative if a signal ended it.
        seconds: from start to end.
        message: if it failed, the last line that it printed.
    """

    returncode: int
    seconds: float
    message: str = ""


class Engine(Protocol):
    """Where jobs run.

    Args:
        slots: jobs that it takes at a time.
    """

    slots: int

    def submit(self, job: Job) -> Future[Outcome]:
        """Start or queue a job."""

    def close(self) -> None:
        """Kill what still runs."""


def run_plan(
    plan: Plan,
    job_of: Callable[[StudyStep], Job],
    engine: Engine,
    finish: Callable[[PlannedCell | PlannedAnalysis], None],
    fail: Callable[[PlannedCell | PlannedAnalysis, StudyStep, str], None],
) -> None:
    """Run the steps of all cells and analyses. A step that fails fails those that need it; the others go on.

    Args:
        finish: called with each cell and analysis whose steps are all done.
        fail: called with each cell and analysis that has lost a step, that step, and the last line that it printed.
    """
    results: list[PlannedCell | PlannedAnalysis] = [*plan.cells.values(), *plan.analyses]
    done: set[Path] = set()
    failed: dict[Path, str] = {}
    running: dict[Future[Outcome], tuple[StudyStep, Job]] = {}
    try:
        while results:
            for step in ready_steps(plan, results, done, {step.out for step, _ in running.values()}):
                if len(running) < engine.slots:
                    job = job_of(step)
                    running[engine.submit(job)] = step, job
            assert running, "the plan lacks a step that another one needs"
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                (step, job), outcome = running.pop(future), future.result()
                if outcome.returncode == 0:
                    done.add(step.out)
                    end = f"{outcome.seconds:.0f} s"
                else:
                    failed[step.out] = outcome.message
                    end = f"FAILED: {outcome.message} ({job.log})"
                log.info("[%d of %d] %s: %s", len(done) + len(failed), len(plan.steps), job.name, end)
            still_open = []
            for planned in results:
                lost = next((out for out in planned.steps if out in failed), None)
                if lost is not None:
                    fail(planned, plan.steps[lost], failed[lost])
                elif done.issuperset(planned.steps):
                    finish(planned)
                else:
                    still_open.append(planned)
            results = still_open
    finally:
        engine.close()


def ready_steps(
    plan: Plan, results: list[PlannedCell | PlannedAnalysis], done: set[Path], running: set[Path]
) -> list[StudyStep]:
    """The steps of these results that can start now, in the order of the plan."""
    wanted = dict.fromkeys(out for planned in results for out in planned.steps if out not in done | running)
    return [plan.steps[out] for out in wanted if done.issuperset(plan.steps[out].needs)]
