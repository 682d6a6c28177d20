import math

import numpy as np
import pytest

from metakd.errors import InputError
from metakd.training.loop import Progress, record_step, schedule


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    progress = Progress(step=4)
    with pytest.raises(InputError, match="step 5: the loss of term 'hidden' is nan; lower the learning rate"):
        record_step(progress, {"hidden": 1.0}, {"hidden": math.nan})
    record_step(progress, {"hidden": 2.0, "logits": 1.0}, {"hidden": 0.5, "logits": 3.0})
    assert (progress.step, progress.losses, progress.sums) == (5, [4.0], {"hidden": 0.5, "logits": 3.0})


def test_rate_rises_then_falls_to_zero() -> None:
    rates = [schedule(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert max(rates) == 1.0 and np.argmax(rates) in (9, 10)
    assert np.allclose(np.diff(rates[10:]), -1 / 90)
    assert [schedule(step, 4, 0.0) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
