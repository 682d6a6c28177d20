"""Run scripts in copies of a process that has imported torch and transformers already.

That import takes seconds, more than the evaluation of a small model. GPU drivers do not survive the copy.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

IMPORTED = [
    "metakd.export.sessions", "metakd.evaluation.evaluating", "metakd.training.dry_run", "metakd.training.distillation",
    "metakd.training.teacher_training", "metakd.translation.training", "sklearn.linear_model",
]  # fmt: skip


class Copies:
    """Copies of one process that are running scripts; they die when this process dies.

    The process starts with the first script, and its libraries see one thread, which a copy may change for torch.
    """

    def __init__(self) -> None:
        self.context: ForkServerContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(IMPORTED)

    def start(self, arguments: Sequence[str], log: Path, threads: int) -> BaseProcess:
        """Start a script with its arguments, as `python SCRIPT ...`; what it prints is added to the log."""
        process = self.context.Process(target=run_script, args=(list(arguments), log, threads))
        with variable("OMP_NUM_THREADS", "1"):
            process.start()
        return process


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """An environment variable for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def die_with_parent() -> None:
    """Wait until the process that asked for this copy is gone, and end this one."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


def run_script(arguments: list[str], log: Path, threads: int) -> None:
    """What a copy does."""
    import torch

    threading.Thread(target=die_with_parent, daemon=True).start()
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    sys.argv = arguments
    sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
    runpy.run_path(arguments[0], run_name="__main__")
