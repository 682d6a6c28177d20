"""Steps of a plan run in order, side by side, each once; failures stay where they are."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from metakd.studies.engines import LocalEngine
from metakd.studies.plan import Plan, PlannedCell, StudyStep
from metakd.studies.scheduler import Job, run_plan
from metakd.studies.study import Cell
from tests.conftest import ROOT, wait_until


def small_plan(tmp_path: Path, needs: dict[str, list[str]], cells: dict[str, list[str]]) -> Plan:
    """Steps by name with the names that they need, and cells with the names of their steps."""
    plan = Plan()
    for name, before in needs.items():
        step = StudyStep("check", tmp_path / name, tuple(tmp_path / other for other in before), name=name)
        plan.steps[step.out] = step
    for name, steps in cells.items():
        cell = Cell("task", name, "method", "books", 1, 1.0, False)
        plan.cells[cell] = PlannedCell(name, cell, {}, tuple(tmp_path / step for step in steps), tmp_path / steps[-1])
    return plan


def run_small(plan: Plan, tmp_path: Path, slots: int, script_of: dict[str, str]) -> tuple[list[str], dict[str, Any]]:
    """Run each step as shell commands, by default `true`; returns the finished cells and the lost ones."""
    ends: list[str] = []
    lost: dict[str, Any] = {}

    def job_of(step: StudyStep) -> Job:
        command = ("sh", "-c", f"echo {step.name} >> {tmp_path}/ran; {script_of.get(step.name, 'true')}")
        return Job(step.name, command, tmp_path / "logs" / f"{step.name}.log", 3)

    run_plan(
        plan, job_of, LocalEngine(slots, []), lambda planned: ends.append(planned.key),
        lambda planned, step, message: lost.update({planned.key: (step.name, message)}),
    )  # fmt: skip
    return ends, lost


def test_a_failing_step_fails_the_cells_that_need_it_and_no_other(tmp_path: Path) -> None:
    needs = {"a": [], "b": ["a"], "c": ["b"], "d": ["a"], "e": [], "f": ["e"]}
    cells = {"one": ["a", "b", "c"], "two": ["a", "d"], "three": ["e", "f"]}
    plan = small_plan(tmp_path, needs, cells)
    scripts = {"b": "echo first; echo 'error: no such thing' >&2; exit 2", "f": "kill -9 $$"}
    ends, lost = run_small(plan, tmp_path, 2, scripts)
    assert ends == ["two"]
    assert lost == {"one": ("b", "error: no such thing"), "three": ("f", "killed by SIGKILL")}
    assert sorted((tmp_path / "ran").read_text().split()) == ["a", "b", "d", "e", "f"]  # each once, c never
    assert "first\nerror: no such thing" in (tmp_path / "logs/b.log").read_text()


def test_steps_run_side_by_side_but_no_more_than_there_are_workers(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    plan = small_plan(tmp_path, {name: [] for name in names}, {name: [name] for name in names})
    watch = f"echo + >> {tmp_path}/trace; sleep 0.2; echo - >> {tmp_path}/trace"
    ends, _ = run_small(plan, tmp_path, 2, dict.fromkeys(names, watch))
    running = np.cumsum([1 if sign == "+" else -1 for sign in (tmp_path / "trace").read_text().split()])
    assert sorted(ends) == names and running.max() == 2


def test_jobs_get_their_share_of_threads_and_gpus(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, {"a": [], "b": []}, {"a": ["a"], "b": ["b"]})
    engine = LocalEngine(2, ["4", "7"])

    def job_of(step: StudyStep) -> Job:
        command = ("sh", "-c", "sleep 0.2; echo $OMP_NUM_THREADS $CUDA_VISIBLE_DEVICES")
        return Job(step.name, command, tmp_path / f"{step.name}.log", 3)

    run_plan(plan, job_of, engine, lambda planned: None, lambda planned, step, message: pytest.fail(message))
    printed = sorted((tmp_path / f"{name}.log").read_text().split("\n")[-2] for name in "ab")
    assert printed == ["3 4", "3 7"]


def test_a_job_whose_log_is_gone_or_that_dies_oddly_fails_alone(tmp_path: Path) -> None:
    commands = {"a": f"rm -r {tmp_path}/logs; exit 3", "b": "kill -35 $$", "c": "true"}
    engine = LocalEngine(1, [])
    outcomes = {
        name: engine.submit(Job(name, ("sh", "-c", line), tmp_path / f"logs/{name}.log", 1)).result(60)
        for name, line in commands.items()
    }
    assert outcomes["a"].returncode and "a.log" in outcomes["a"].message
    assert outcomes["b"].message == "killed by signal 35" and outcomes["c"].returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
def test_processes_die_with_the_study(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom metakd.studies.engines import LocalEngine\n"
        "from metakd.studies.scheduler import Job\n"
        f"job = Job('', ('sh', '-c', 'echo $$ > {tmp_path}/pid; exec sleep 1000'), Path('{tmp_path}/log'), 1)\n"
        "LocalEngine(1, []).submit(job).result()\n"
    )
    study = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    wait_until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text().strip())
    child = int((tmp_path / "pid").read_text())
    os.kill(study.pid, signal.SIGKILL)
    study.wait()
    wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE, 60)
