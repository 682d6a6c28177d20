"""Which rows form which batch: seeded, of similar length, and the same for any number of processes."""

from __future__ import annotations

import math

import numpy as np

from metakd.errors import InputError

# Batches whose rows are sorted by length together. On 900 rows of 25 tokens, 32 pad 4 % and put two rows of one
# step together again in the next epoch with probability 0.6; 8 pad 15 % (0.18), 1 pads 87 % (0.03).
WINDOW = 8


def plan_epoch(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The row numbers of each optimizer step of an epoch; every row occurs once.

    Step sizes differ by at most one, so that no row of a small last step weighs more than the others.

    Args:
        lengths: tokens per row [n].
        batch_size: most rows per step.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    ends = np.linspace(0, len(order), steps_per_epoch(len(order), batch_size) + 1).astype(np.int64)
    steps: list[np.ndarray] = []
    for first in range(0, len(ends) - 1, WINDOW):
        bounds = ends[first : first + WINDOW + 1]
        window = order[bounds[0] : bounds[-1]]
        window = window[np.argsort(lengths[window], kind="stable")]
        steps += np.split(window, bounds[1:-1] - bounds[0])
    return [steps[i] for i in generator.permutation(len(steps))]


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Optimizer steps of an epoch."""
    return math.ceil(rows / batch_size)


def plan_epoch_by_tokens(lengths: np.ndarray, max_tokens: int, seed: int, epoch: int) -> list[np.ndarray]:
    """`plan_epoch` with steps of like numbers of tokens, none above `max_tokens`; every row occurs once.

    Args:
        lengths: tokens per row [n].

    Raises:
        InputError: see `steps_by_tokens`.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    steps: list[np.ndarray] = []
    windows = math.ceil(steps_by_tokens(lengths, max_tokens) / WINDOW)
    count = steps_by_tokens(lengths, max_tokens)
    steps_of_window = [len(numbers) for numbers in np.array_split(np.arange(count), windows)]
    for window, size in zip(split_evenly(order, lengths, steps_of_window), steps_of_window, strict=True):
        window = window[np.argsort(lengths[window], kind="stable")]
        steps += split_evenly(window, lengths, [1] * size)
    return [steps[i] for i in generator.permutation(len(steps))]


def split_evenly(rows: np.ndarray, lengths: np.ndarray, shares: list[int]) -> list[np.ndarray]:
    """Cut rows, in their order, where their tokens reach each share of the whole; no part exceeds it by a row."""
    tokens = np.cumsum(lengths[rows])
    ends = np.cumsum(shares)[:-1] / sum(shares) * tokens[-1]
    return np.split(rows, np.searchsorted(tokens, ends, side="right"))


def steps_by_tokens(lengths: np.ndarray, max_tokens: int) -> int:
    """Optimizer steps of an epoch in `plan_epoch_by_tokens`.

    Raises:
        InputError: `max_tokens` holds fewer than four of the longest row, of which two are left free for rounding.
    """
    longest = int(lengths.max())
    if max_tokens < 4 * longest:
        raise InputError(
            f"task.training.max_tokens is {max_tokens}, but the longest row has {longest} tokens; make it at least "
            f"{4 * longest}, or leave out long rows"
        )
    return max(1, math.ceil(int(lengths.sum()) / (max_tokens - 2 * longest)))


def micro_batches(
    rows: np.ndarray, micro_batch_size: int | None, rank: int, processes: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The forward passes of one process in one optimizer step, each as (row numbers, valid).

    Rows are dealt in turn to all micro-batches of all processes, so that their lengths are similar. Every process
    runs the same number of passes: a micro-batch without rows gets the step's first row, with valid 0 instead of 1.

    Args:
        rows: row numbers of the step; at least one.
        micro_batch_size: most rows in a forward pass; None runs all rows of a process in one pass.
    """
    largest_count = math.ceil(len(rows) / processes)
    passes = math.ceil(largest_count / (micro_batch_size or largest_count))
    stride = passes * processes
    batches = []
    for start in range(rank, stride, processes):
        batch = rows[start::stride]
        batches.append((batch, np.ones(len(batch))) if len(batch) else (rows[:1], np.zeros(1)))
    return batches


def plan_inference(lengths: np.ndarray, batch_size: int, rank: int, processes: int) -> list[np.ndarray]:
    """The row numbers of each batch that one process runs in a pass over all rows.

    The longest rows come first: if memory is too small, the first batch shows it.
    """
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)][rank::processes]
