import numpy as np
import pytest

from metakd.data.batches import micro_batches, plan_epoch, plan_inference

LENGTHS = np.random.default_rng(0).integers(3, 60, 1003)


def test_an_epoch_has_every_row_once_in_an_order_of_its_own() -> None:
    first, again, second = (plan_epoch(LENGTHS, 16, 1, epoch) for epoch in (0, 0, 1))
    assert sorted(np.concatenate(first)) == list(range(1003))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not (np.concatenate(first) == np.concatenate(second)).all()
    assert len(first) == len(second)


def test_batches_have_rows_of_similar_length() -> None:
    def waste(steps: list[np.ndarray]) -> float:
        return sum(LENGTHS[s].max() * len(s) for s in steps) / LENGTHS.sum() - 1

    shuffled = np.array_split(np.random.default_rng(1).permutation(1003), 63)
    assert waste(plan_epoch(LENGTHS, 16, 1, 0)) < waste(shuffled) / 5


@pytest.mark.parametrize(
    ("rows", "micro", "processes"), [(16, None, 1), (16, 4, 2), (7, 3, 2), (1, None, 4), (5, 1, 3)]
)
def test_micro_batches_deal_all_rows_once_and_equally_often(rows: int, micro: int | None, processes: int) -> None:
    step = np.arange(100, 100 + rows)
    dealt = [micro_batches(step, micro, rank, processes) for rank in range(processes)]
    assert len({len(parts) for parts in dealt}) == 1  # all processes take part in every pass
    valid = [row for parts in dealt for chosen, v in parts for row, keep in zip(chosen, v, strict=True) if keep]
    assert sorted(valid) == step.tolist()
    assert all(len(chosen) <= (micro or rows) for parts in dealt for chosen, _ in parts)


def test_inference_covers_all_rows() -> None:
    shares = [np.concatenate(plan_inference(LENGTHS, 64, rank, 3)) for rank in range(3)]
    assert sorted(np.concatenate(shares)) == list(range(1003))
