"""Devices, precision and seeds, through Accelerate: one process or many under torchrun."""

from __future__ import annotations

import functools
import gc
import os
from pathlib import Path

import datasets
import numpy as np
import torch
import transformers
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast_object_list

from metakd.errors import InputError
from metakd.steps import Processes
from metakd.training.sharding import shard
from metakd.training.tuning import keep_freed_memory, share_cores


def start(precision: str = "auto", sharded: bool = False) -> Accelerator:
    """The accelerator of this process; called once by each script that computes.

    Args:
        precision: "auto" (bf16 where the machine computes in it natively), "fp32" or "bf16".
        sharded: whether processes share out what they train.

    Raises:
        InputError: Accelerate is asked for sharded training by its environment variable.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise InputError("ACCELERATE_USE_FSDP is set; leave it, and set training.sharded in the task file")
    gc.freeze()  # what was imported stays; each collection would walk through half a million objects (0.2 s)
    keep_freed_memory()
    share_cores()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    bf16 = precision == "bf16" or (precision == "auto" and has_bf16())
    # A stage trains only what its terms reach, e.g. no classifier while hidden states are matched.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # Without `cpu`, Accelerate would take several processes on a machine without accelerator for single ones.
    cpu = not torch.accelerator.is_available()
    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=cpu, kwargs_handlers=[unused])
    if sharded:
        shard(accelerator)
    if not accelerator.is_main_process:
        datasets.disable_progress_bars()
    return accelerator


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
    """Seed torch from several numbers; the same numbers give the same dropout, whatever came before."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1)
