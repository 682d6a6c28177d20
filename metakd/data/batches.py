"""Which rows form which optimizer step: seeded, of similar length, the same for any number of processes."""

from __future__ import annotations

import numpy as np

WINDOW = 32  # batches that are sorted by length together: little padding, yet a different mix every epoch


def plan_epoch(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Row numbers of each optimizer step of an epoch; every row occurs once.

    Args:
        lengths: tokens per row [n].
        batch_size: rows per step; the last steps of a window may have fewer.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    steps: list[np.ndarray] = []
    for start in range(0, len(order), batch_size * WINDOW):
        window = order[start : start + batch_size * WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        steps += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    return [steps[i] for i in generator.permutation(len(steps))]


def micro_batches(
    rows: np.ndarray, micro_batch_size: int | None, rank: int, processes: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """This process's share of a step as (rows, valid) per forward pass; all processes get equally many.

    Rows are dealt like cards, so that shares are alike in length. A process left without a row gets one
    that is not valid (0 instead of 1), so that all take part in every forward pass.
    """
    largest_share = -(-len(rows) // processes)
    passes = -(-largest_share // (micro_batch_size or largest_share))
    parts = passes * processes
    mine = []
    for part in range(rank, parts, processes):
        chosen = rows[part::parts]
        mine.append((chosen, np.ones(len(chosen))) if len(chosen) else (rows[:1], np.zeros(1)))
    return mine


def plan_inference(lengths: np.ndarray, batch_size: int, rank: int, processes: int) -> list[np.ndarray]:
    """This process's batches of a pass over all rows, the longest first so that memory runs out early or never."""
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)][rank::processes]
