"""What makes training fast on the machine at hand, in one place.

Losses and gradients are the same, but for rounding and the masks that dropout draws; weight decay leaves words alone
that no training row has.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import torch
from torch import nn
from transformers import PreTrainedModel

from metakd.data.encoding import EncodedRows
from metakd.errors import InputError
from metakd.models import attention
from metakd.models.dropout import fast_dropout
from metakd.models.words import train_used_words


@contextmanager
def tuned(module: nn.Module, rows: EncodedRows, device: torch.device) -> Iterator[None]:
    """Bring a module that is to be trained on these rows into its fastest form, and back afterwards."""
    with ExitStack() as stack:
        stack.enter_context(train_used_words(module, torch.from_numpy(rows.used_ids())))
        if device.type == "cpu":
            stack.enter_context(fast_dropout(module))
            for model in {m for m in module.modules() if isinstance(m, PreTrainedModel)}:
                if model.config._attn_implementation == "sdpa":  # what ours stands in for
                    with suppress(InputError):  # a family whose attention cannot be replaced keeps its own
                        attention.enable(model)
                        stack.callback(model.set_attn_implementation, "sdpa")
        yield


def share_cores() -> None:
    """Give each process under torchrun its share of the cores, where torchrun's own default would be one thread.

    More threads than cores are far slower than one each. Another OMP_NUM_THREADS than 1 is left as it is.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes > 1 and os.environ.get("OMP_NUM_THREADS") == "1":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // processes))


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of a step's tensors in the next one.

    By default it gives large blocks back to the system at once, which then clears every page of the next ones anew.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
