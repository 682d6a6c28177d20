import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from metakd.errors import InputError
from metakd.weighting import prototypes
from metakd.weighting.prototypes import prototype_scores


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def example(seed: int = 0, n: int = 60, k: int = 3, c: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(1.0, 1.0, (n, 5)).astype(np.float32)
    return embeddings, generator.integers(0, c, n), np.arange(n) % k


def test_hand_worked() -> None:
    embeddings = np.array([[1, 0], [0, 1], [1, 1], [0, 2]], dtype=np.float32)
    labels, domains = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    # Row 0 is its own prototype; the other domain's prototype of class 0 is (1, 1): cosine 1/sqrt(2).
    scores = prototype_scores(embeddings, labels, domains, alpha=0.25)
    assert scores == pytest.approx([0.25 + 0.75 * 0.5**0.5, 1.0, 0.25 + 0.75 * 0.5**0.5, 1.0])


def test_paper_against_a_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labels, domains = example()
    expected = []
    for i in range(len(labels)):

        def centroid(k: int, m: int = labels[i]) -> np.ndarray:
            return embeddings[(domains == k) & (labels == m)].astype(float).mean(0)

        others = [cosine(centroid(k), embeddings[i]) for k in range(3) if k != domains[i]]
        expected.append(0.3 * cosine(centroid(domains[i]), embeddings[i]) + 0.7 / 2 * sum(others))
    expected = np.clip(expected, 0, 1)
    assert prototype_scores(embeddings, labels, domains, alpha=0.3) == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr(prototypes, "BLOCK", 7)  # blocks change nothing
    assert prototype_scores(embeddings, labels, domains, alpha=0.3) == pytest.approx(expected, abs=1e-6)


def test_easynlp_against_a_naive_loop() -> None:
    embeddings, labels, domains = example(1)
    means = [embeddings[domains == k].astype(float).mean(0) for k in range(3)]
    expected = []
    for i in range(len(labels)):
        others = np.mean([means[k] for k in range(3) if k != domains[i]], axis=0)
        expected.append((cosine(means[domains[i]], embeddings[i]) + cosine(others, embeddings[i])) / 2)
    scores = prototype_scores(embeddings, labels, domains, variant="easynlp")
    assert scores == pytest.approx(np.clip(expected, 0, 1), abs=1e-6)


@pytest.mark.parametrize("variant", ["paper", "easynlp"])
def test_scores_are_defined_where_the_formula_is_not(variant: prototypes.Variant) -> None:
    embeddings, labels, domains = example(2)
    assert (prototype_scores(embeddings, labels, np.zeros_like(domains), variant) == 1).all()  # one domain
    assert (prototype_scores(embeddings[:1], labels[:1], domains[:1], variant) == 1).all()  # a single row
    assert np.isfinite(prototype_scores(embeddings * 0, labels, domains, variant)).all()  # zero vectors
    sparse = prototype_scores(embeddings, np.where(domains == 0, 2, labels), domains, variant)  # class 2 in one domain
    assert np.isfinite(sparse).all() and (sparse >= 0).all() and (sparse <= 1).all()
    gap = prototype_scores(embeddings, labels, domains * 4, variant)  # domains without rows
    assert np.isfinite(gap).all()


def test_a_class_of_one_domain_is_scored_by_its_own_prototype_alone() -> None:
    embeddings = np.array([[1, 0], [1, 1], [5, 5]], dtype=np.float32)
    scores = prototype_scores(embeddings, np.array([0, 0, 1]), np.array([0, 0, 1]), alpha=0.5)
    mean = np.array([1.0, 0.5])
    assert scores == pytest.approx([cosine(mean, embeddings[0]), cosine(mean, embeddings[1]), 1.0])


def test_an_embedding_that_is_not_finite_is_refused() -> None:
    embeddings, labels, domains = example()
    embeddings[6, 2] = np.nan
    with pytest.raises(InputError, match="row 7 is not finite"):
        prototype_scores(embeddings, labels, domains)


def test_rows_with_hidden_labels_are_in_no_prototype() -> None:
    embeddings, labels, domains = example()
    visible = np.arange(len(labels)) % 4 != 0
    scores = prototype_scores(embeddings, labels, np.where(visible, domains, -1))
    assert np.isnan(scores[~visible]).all()
    assert scores[visible] == pytest.approx(prototype_scores(embeddings[visible], labels[visible], domains[visible]))


def test_a_mapped_file_gives_the_same_scores_as_an_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labels, domains = example()
    np.save(tmp_path / "values.npy", embeddings)
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    monkeypatch.setattr(prototypes, "BLOCK", 7)
    assert np.array_equal(prototype_scores(mapped, labels, domains), prototype_scores(embeddings, labels, domains))
    part = prototype_scores(mapped[9:], labels[9:], domains[9:])
    assert np.array_equal(part, prototype_scores(embeddings[9:], labels[9:], domains[9:]))


@pytest.mark.parametrize(("domains", "classes"), [(2, 2), (2, 10_000), (300, 50)])
def test_memory_is_bounded_by_the_rows_whatever_the_number_of_names(domains: int, classes: int) -> None:
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(20_000, 64)).astype(np.float32)
    arguments = embeddings, generator.integers(classes, size=20_000), generator.integers(domains, size=20_000)
    tracemalloc.start()
    prototypes.prototype_scores(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * embeddings.nbytes  # products with all of 20,000 prototypes would be 100 times as large


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_embeddings_that_cannot_be_multiplied_are_refused_with_their_row(value: float) -> None:
    embeddings, labels, domains = example()
    embeddings[17, 2] = value
    with pytest.raises(InputError, match="the embedding of row 18 is not finite, or holds numbers above 1e"):
        prototypes.prototype_scores(embeddings, labels, domains)


def test_a_class_of_hidden_rows_alone_changes_nothing() -> None:
    embeddings, labels, domains = example()
    more = np.concatenate([embeddings, embeddings[:1]])
    scores = prototype_scores(more, np.append(labels, 9), np.append(domains, -1))
    np.testing.assert_array_equal(scores[:-1], prototype_scores(embeddings, labels, domains))
    assert np.isnan(scores[-1])
