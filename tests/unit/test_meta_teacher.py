import numpy as np

from metakd.objectives.meta_teacher import false_domains

DOMAINS = np.random.default_rng(0).integers(0, 4, 4000)
STEPS = [np.arange(i, i + 16) for i in range(0, 4000, 16)]


def test_paper_never_draws_the_true_domain_and_draws_the_others_alike() -> None:
    found = false_domains(DOMAINS, STEPS, 4, "paper", np.random.default_rng(1))
    assert (found != DOMAINS).all()
    for k in range(4):
        counts = np.bincount(found[k == DOMAINS], minlength=4)
        others = np.delete(counts, k)
        assert counts[k] == 0 and abs(others / others.sum() - 1 / 3).max() < 0.06


def test_released_permutes_within_a_step_and_some_stay_true() -> None:
    found = false_domains(DOMAINS, STEPS, 4, "released", np.random.default_rng(1))
    for rows in STEPS:
        assert sorted(found[rows]) == sorted(DOMAINS[rows])
    assert 0.15 < (found == DOMAINS).mean() < 0.35
