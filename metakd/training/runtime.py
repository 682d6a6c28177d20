"""Devices, precision, seeds and trackers of a process, through Accelerate: one process, or many under torchrun."""

from __future__ import annotations

import functools
import logging
import os
from importlib.util import find_spec
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast_object_list

from metakd.config import Training
from metakd.cpu.tuning import tune_process
from metakd.errors import InputError
from metakd.steps import Processes

log = logging.getLogger(__name__)
SHARDED = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")


def start(
    precision: str = "auto", cpu_tuning: str = "auto", log_with: list[str] | None = None, log_folder: Path | None = None
) -> Accelerator:
    """The accelerator of this process; each script that computes calls this once.

    Args:
        precision: "auto" (bf16 where the machine computes in it natively), "fp32" or "bf16".
        cpu_tuning: "auto" or "off".
        log_with: names of Accelerate's trackers.
        log_folder: where trackers that write files write them.

    Raises:
        InputError: an environment variable of Accelerate asks for sharded training, or a tracker is not installed.
    """
    ignore_accelerate_variables()
    cpu = not torch.accelerator.is_available()
    if cpu and cpu_tuning == "auto":
        tune_process()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    bf16 = precision == "bf16" or (precision == "auto" and has_bf16())
    # A stage trains only what its terms reach: no classifier while hidden states are matched, for instance.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # Without `cpu`, Accelerate takes several processes on a machine without accelerator for single ones.
    try:
        accelerator = Accelerator(
            mixed_precision="bf16" if bf16 else "no",
            cpu=cpu,
            kwargs_handlers=[unused],
            log_with=log_with or None,
            project_dir=log_folder,
        )
    except ValueError as error:  # Accelerate names the tracker
        raise InputError(f"task.training.log_with is {log_with}: {error}") from None
    if not accelerator.is_main_process:
        datasets.disable_progress_bars()
    return accelerator


def ignore_accelerate_variables() -> None:
    """Remove Accelerate's environment variables: some change the loss (accumulated steps), the device or the precision.

    `accelerate launch` sets them too, so they are no error, unless they ask for what is not done here.
    """
    for name in SHARDED:
        if os.environ.get(name, "false").lower() in ("1", "true", "yes"):
            raise InputError(f"{name} is set, but models are not sharded; unset it")
    names = sorted(name for name in os.environ if name.startswith("ACCELERATE_"))
    for name in names:
        del os.environ[name]
    if names:
        log.warning("%s have no effect: the task file has these settings", ", ".join(names))


def start_training(training: Training, log_folder: Path) -> Accelerator:
    """`start` with a task's settings; a tracker writes into `log_folder`."""
    if training.log_with == "auto":
        names = ["tensorboard"] if find_spec("tensorboard") or find_spec("tensorboardX") else []
    else:
        names = training.log_with
    return start(training.precision, training.cpu_tuning, names, log_folder)


class Together(Processes):
    """The processes of an accelerator, as a step needs them."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator, self.main = accelerator, accelerator.is_main_process

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def agree(self, answer: bool) -> bool:
        return bool(broadcast_object_list([answer])[0])


def on_one_machine(accelerator: Accelerator) -> bool:
    """Whether all processes run on this machine, so that they see each other's files at once."""
    count = accelerator.num_processes
    return int(os.environ.get("LOCAL_WORLD_SIZE", count)) == count


@functools.cache
def has_bf16() -> bool:
    """Whether the device has bf16 arithmetic; emulation would be slower than fp32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and any(name in flags.read_text() for name in ("amx_bf16", "avx512_bf16"))


def seed_everything(*numbers: int) -> None:
    """Seed torch from several numbers; equal numbers give equal dropout, whatever was drawn before."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1)
