"""Engines: processes of this machine, or of the machines of a Ray cluster."""

from __future__ import annotations

import ctypes
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any

from metakd.errors import InputError
from metakd.studies.scheduler import Job, Outcome

UNLIMITED = 1_000_000
RETRIES = 3  # of a job whose machine is lost


class LocalEngine:
    """Processes of this machine. They die when this process dies, however it dies.

    Args:
        slots: processes at a time.
        gpus: names of this machine's GPUs; where there are several, each process sees one.
    """

    def __init__(self, slots: int, gpus: list[str]) -> None:
        self.slots, self.gpus = slots, gpus
        self.free = list(range(slots))
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def submit(self, job: Job) -> Future[Outcome]:
        """Start a job; the caller keeps to `slots`."""
        slot = self.free.pop(0)
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if len(self.gpus) > 1 else {}
        started, process = time.monotonic(), start(job, gpu)
        self.processes[slot] = process
        future: Future[Outcome] = Future()

        def wait() -> None:
            try:
                outcome = finished(job, process, started)
            except Exception as error:  # a future without a result would stop the study for good
                outcome = Outcome(1, time.monotonic() - started, f"{type(error).__name__}: {error}")
            self.free.append(slot)
            future.set_result(outcome)

        threading.Thread(target=wait, daemon=True).start()
        return future

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()


class RayEngine:
    """Tasks of a Ray cluster: that of RAY_ADDRESS, one that runs on this machine, or a new one of this machine alone.

    All machines need the same Python environment, and this folder and that of the study, at the same paths. A job whose
    machine is lost starts again on another one and goes on from the last checkpoint.

    Args:
        gpus: that a job takes, may be a fraction.

    Raises:
        InputError: Ray is not installed.
    """

    slots = UNLIMITED  # Ray queues

    def __init__(self, gpus: float) -> None:
        try:
            import ray
        except ImportError:
            raise InputError("Ray is not installed: pip install -r requirements-ray.txt") from None
        self.gpus = gpus
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        self.run = ray.remote(max_retries=RETRIES)(run_job)

    def submit(self, job: Job) -> Future[Outcome]:
        """Queue a job that takes as many CPUs as it has threads."""
        task = self.run.options(num_cpus=job.threads, num_gpus=self.gpus).remote(job)
        return outcome_of(task.future())

    def close(self) -> None:
        import ray

        ray.shutdown()  # ends the tasks of this process


def outcome_of(ray_future: Future[Outcome]) -> Future[Outcome]:
    """A future that holds a failed outcome where Ray's raises, e.g. after the last retry."""
    future: Future[Outcome] = Future()

    def pass_on(done: Future[Outcome]) -> None:
        error = done.exception()
        future.set_result(done.result() if error is None else Outcome(1, 0.0, f"Ray: {error}".splitlines()[0]))

    ray_future.add_done_callback(pass_on)
    return future


def run_job(job: Job) -> Outcome:
    """Run a job to its end, on any machine."""
    started = time.monotonic()
    return finished(job, start(job, {}), started)


def start(job: Job, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a job's process; what it prints goes to the job's log."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(job.threads), "PYTHONUNBUFFERED": "1", **environment}
    with job.log.open("w", encoding="utf-8") as log:
        log.write(f"{datetime.now().isoformat(timespec='seconds')} {os.uname().nodename} {shlex.join(job.command)}\n\n")
        log.flush()
        return subprocess.Popen(
            job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment,
            preexec_fn=die_with(os.getpid()),
        )  # fmt: skip


def die_with(parent: int) -> Callable[[], None] | None:
    """A function for a child process, before its program starts: ask the system to kill the child with its parent.

    Only Linux can do that. Elsewhere a killed parent leaves its children to finish their steps.
    """
    if sys.platform != "linux":
        return None
    set_option, parent_death_signal = ctypes.CDLL(None).prctl, 1

    def ask() -> None:
        set_option(parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:  # it died before
            os._exit(1)

    return ask


def finished(job: Job, process: subprocess.Popen[Any], started: float) -> Outcome:
    """Wait for a job's process, and say how it ended."""
    returncode = process.wait()
    seconds = time.monotonic() - started
    if returncode == 0:
        return Outcome(0, seconds)
    names = {number.value: number.name for number in signal.Signals}
    killed = f"killed by {names.get(-returncode, f'signal {-returncode}')}" if returncode < 0 else ""
    return Outcome(returncode, seconds, killed or last_line(job.log))


def last_line(path: Path) -> str:
    """The last line of a log that is not empty."""
    lines = [line.strip() for line in path.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def visible_gpus() -> list[str]:
    """Names of the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(number) for number in range(len(listed.splitlines()))]


def available_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
