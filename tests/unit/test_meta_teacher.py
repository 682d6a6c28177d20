import numpy as np

from metakd.evaluation.metrics import baseline, classification_scores
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


def test_majority_is_averaged_over_domains() -> None:
    labels, domains = np.array([0, 0, 0, 1, 0, 1]), np.array([0, 0, 0, 0, 1, 1])
    assert baseline(labels, domains, "single_label") == (0.75 + 0.5) / 2


def test_scores_by_hand() -> None:
    found = classification_scores(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ["a", "b"])
    assert found["accuracy"] == 0.75 and found["majority"] == 0.75
    assert found["classes"]["a"] == {"rows": 1, "precision": 0.5, "recall": 1.0, "f1": 2 / 3}
    assert abs(found["macro_f1"] - (2 / 3 + 0.8) / 2) < 1e-12
    # Wilson: (p + z^2/2n +- z sqrt(p q / n + z^2 / 4n^2)) / (1 + z^2/n)
    z, n, p = 1.959964, 4, 0.75
    half = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    wanted = [(p + z * z / (2 * n) + sign * half) / (1 + z * z / n) for sign in (-1, 1)]
    assert np.allclose(found["accuracy_95"], wanted, atol=1e-5)
