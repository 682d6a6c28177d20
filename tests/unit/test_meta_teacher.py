import numpy as np
import pytest

from metakd.objectives.meta_teacher import false_domains

DOMAINS = np.random.default_rng(0).integers(0, 4, 4000)
STEPS = [np.arange(i, i + 16) for i in range(0, 4000, 16)]


def test_the_paper_draws_the_other_domains_equally_often_and_never_the_true_one() -> None:
    drawn = false_domains(DOMAINS, STEPS, 4, "other_domains", np.random.default_rng(1))
    assert (drawn != DOMAINS).all()
    for k in range(4):
        others = np.delete(np.bincount(drawn[k == DOMAINS], minlength=4), k)
        assert abs(others / others.sum() - 1 / 3).max() < 0.06


def test_two_domains_are_exchanged() -> None:
    domains = np.array([0, 1, 1, 0])
    assert false_domains(domains, [], 2, "other_domains", np.random.default_rng(1)).tolist() == [1, 0, 0, 1]


def test_easynlp_permutes_within_a_step_and_some_labels_stay_true() -> None:
    drawn = false_domains(DOMAINS, STEPS, 4, "permuted", np.random.default_rng(1))
    for rows in STEPS:
        assert sorted(drawn[rows]) == sorted(DOMAINS[rows])
    # A row keeps its label with probability 1/16; another row's label is equal with probability 1/4.
    assert (drawn == DOMAINS).mean() == pytest.approx(1 / 16 + 15 / 16 / 4, abs=0.03)
