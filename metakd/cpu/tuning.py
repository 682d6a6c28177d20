"""Enter and leave the CPU's fast form of a model; set up a process."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from metakd.cpu.attention import FAST
from metakd.cpu.dropout import replace_dropout
from metakd.cpu.first_token import shorten_last_layer
from metakd.cpu.used_words import train_used_words
from metakd.errors import InputError
from metakd.models.attention import READING, use_attention


class RowsWithWords(Protocol):
    """Rows that know the token ids that occur in them."""

    def used_ids(self) -> np.ndarray: ...


def tune(module: nn.Module) -> Callable[[], None]:
    """Give all transformers models inside a module their fast form; returns a function that undoes it.

    What they compute is equal but for rounding.
    """
    undo: list[Callable[[], None]] = []
    for model in [m for m in module.modules() if isinstance(m, PreTrainedModel)]:
        if model.config.is_encoder_decoder:  # its attention is causal, or has two lengths
            continue
        before = model.config._attn_implementation
        if before not in ("sdpa", READING):
            continue
        with suppress(InputError):  # a family whose attention cannot be replaced keeps its own
            use_attention(model, FAST)
            undo += [partial(model.set_attn_implementation, before), shorten_last_layer(model)]

    def undo_all() -> None:
        for step in reversed(undo):
            step()

    return undo_all


@contextmanager
def tuned(module: nn.Module, device: torch.device, setting: str, rows: RowsWithWords) -> Iterator[None]:
    """Train a module in its fast form inside the block, if it lies on a CPU and the setting is "auto".

    Losses are equal but for rounding and the masks of dropout, which is fast in the whole process meanwhile.

    Args:
        rows: the training rows; only their words are trained.
    """
    if setting != "auto" or device.type != "cpu":
        yield
        return
    with ExitStack() as undo:
        undo.callback(replace_dropout())
        undo.callback(tune(module))
        undo.callback(train_used_words(module, torch.from_numpy(rows.used_ids())))
        yield


def tune_process() -> None:
    """Settings of this process that make steps on a CPU faster."""
    gc.freeze()  # imported objects stay for good; without this each collection walks through half a million of them
    share_cores()
    keep_freed_memory()


def share_cores() -> None:
    """Give each process under torchrun its share of the cores; torchrun's default is one thread.

    More threads than cores are far slower than one each. Any OMP_NUM_THREADS other than 1 stays.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes > 1 and os.environ.get("OMP_NUM_THREADS") == "1":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // processes))


def keep_freed_memory() -> None:
    """Let glibc reuse a step's memory in the next step.

    By default it returns large blocks to the system, which then clears every page before it hands them out again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
