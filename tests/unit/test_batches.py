import numpy as np
import pytest

from metakd.data.batches import micro_batches, plan_epoch, plan_epoch_by_tokens, plan_inference, steps_by_tokens
from metakd.errors import InputError

LENGTHS = np.random.default_rng(0).integers(3, 60, 1003)


def test_an_epoch_has_every_row_once_in_its_own_order() -> None:
    first, again, second = (plan_epoch(LENGTHS, 16, 1, epoch) for epoch in (0, 0, 1))
    assert sorted(np.concatenate(first)) == list(range(1003))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not (np.concatenate(first) == np.concatenate(second)).all()
    assert len(first) == len(second)


def test_batches_have_rows_of_similar_length() -> None:
    def padding(steps: list[np.ndarray]) -> int:
        return sum(LENGTHS[rows].max() * len(rows) for rows in steps) - LENGTHS.sum()

    shuffled = np.array_split(np.random.default_rng(1).permutation(1003), 63)
    assert padding(plan_epoch(LENGTHS, 16, 1, 0)) < padding(shuffled) / 3


@pytest.mark.parametrize(("rows", "sizes"), [(900, {31, 32}), (33, {16, 17}), (32, {32}), (5, {5}), (3600, {31, 32})])
def test_no_step_is_much_smaller_than_the_others(rows: int, sizes: set[int]) -> None:
    assert {len(step) for step in plan_epoch(np.arange(rows), 32, 1, 0)} == sizes


def test_rows_meet_others_in_the_next_epoch() -> None:
    """Of the pairs of a step few are together again in the next epoch, though there are no more than 29 steps."""
    lengths = np.random.default_rng(0).integers(5, 60, 900)
    step_of = np.empty(900, dtype=int)
    for number, step in enumerate(plan_epoch(lengths, 32, 1, 1)):
        step_of[step] = number
    pairs = [step_of[a] == step_of[b] for step in plan_epoch(lengths, 32, 1, 0) for a in step for b in step if a < b]
    assert np.mean(pairs) < 0.25


@pytest.mark.parametrize(
    ("rows", "micro_batch_size", "processes"), [(16, None, 1), (16, 4, 2), (7, 3, 2), (1, None, 4), (5, 1, 3)]
)
def test_micro_batches_have_every_row_once_and_equally_many_passes(
    rows: int, micro_batch_size: int | None, processes: int
) -> None:
    step = np.arange(100, 100 + rows)
    passes = [micro_batches(step, micro_batch_size, rank, processes) for rank in range(processes)]
    assert len({len(of_process) for of_process in passes}) == 1
    batches = [batch for of_process in passes for batch in of_process]
    assert all(len(numbers) == len(valid) <= (micro_batch_size or rows) for numbers, valid in batches)
    assert sorted(np.concatenate([numbers[valid == 1] for numbers, valid in batches])) == step.tolist()


def test_inference_covers_all_rows() -> None:
    batches = [batch for rank in range(3) for batch in plan_inference(LENGTHS, 64, rank, 3)]
    assert sorted(np.concatenate(batches)) == list(range(1003))
    assert all(len(batch) <= 64 for batch in batches)
    assert LENGTHS[plan_inference(LENGTHS, 64, 0, 3)[0]].max() == LENGTHS.max()  # the longest row is in the first batch


@pytest.mark.parametrize("max_tokens", [240, 400, 5000])
def test_steps_by_tokens_hold_every_row_once_and_never_too_many_tokens(max_tokens: int) -> None:
    for epoch in (0, 1):
        steps = plan_epoch_by_tokens(LENGTHS, max_tokens, 1, epoch)
        assert sorted(np.concatenate(steps)) == list(range(len(LENGTHS)))
        assert len(steps) == steps_by_tokens(LENGTHS, max_tokens)
        assert all(0 < LENGTHS[step].sum() <= max_tokens for step in steps)
    longest = LENGTHS.max()
    with pytest.raises(InputError, match=f"max_tokens is 7, but the longest row has {longest} tokens"):
        plan_epoch_by_tokens(LENGTHS, 7, 1, 0)
