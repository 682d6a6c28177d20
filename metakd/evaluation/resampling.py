"""Scores of seeds and rows, and of resampled rows: what intervals and comparisons are computed from.

Symbols: S seeds, n rows, C classes, B resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metakd.errors import InputError

DRAWN_AT_ONCE = 4_000_000  # rows of resamples in memory


@dataclass(frozen=True)
class Measure:
    """A score of one method in one domain, for each seed, on any resample of the rows.

    Args:
        seeds, rows: their numbers.
        score: from the shares of the rows in resamples [B, n], which sum to 1, to scores [B, S].
    """

    seeds: int
    rows: int
    score: Callable[[np.ndarray], np.ndarray]


def row_mean(values: np.ndarray) -> Measure:
    """The mean over rows of any number [S, n]: right or wrong, squared error, agreement with the teacher."""
    columns = np.asarray(values, dtype=float).T
    return Measure(len(values), len(columns), lambda shares: shares @ columns)


def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> Measure:
    """The mean F1 of the classes that occur in class numbers, or of all classes of 0/1.

    Args:
        predicted: class numbers [S, n], or 0/1 [S, n, C].
        labels: class numbers [n], or 0/1 [n, C].
    """
    multi_label = labels.ndim == 2
    if not multi_label:
        classes = np.arange(max(predicted.max(), labels.max()) + 1)
        predicted, labels = predicted[..., None] == classes, labels[:, None] == classes
    hits, ends = (predicted * labels).astype(float), predicted.astype(float) + labels

    def score(shares: np.ndarray) -> np.ndarray:
        class_ends = shares @ ends  # [S, B, C]
        counted = (class_ends > 0) | multi_label
        return (ratio(2 * shares @ hits, class_ends).sum(-1) / counted.sum(-1)).T

    return Measure(len(predicted), len(labels), score)


def micro_f1(predicted: np.ndarray, labels: np.ndarray) -> Measure:
    """F1 over all classes together; 0 if no class is predicted or labelled.

    Args:
        predicted: 0/1 [S, n, C].
        labels: 0/1 [n, C].
    """
    hits, ends = (predicted * labels).sum(-1).T, (predicted + labels).sum(-1).T
    return Measure(len(predicted), len(labels), lambda shares: ratio(2 * shares @ hits, shares @ ends))


def spearman(predicted: np.ndarray, labels: np.ndarray) -> Measure:
    """Spearman's rank correlation of predicted numbers [S, n] with labels [n]; 0 if either side is constant."""

    def score(shares: np.ndarray) -> np.ndarray:
        label_ranks = centred_ranks(labels, shares)
        label_variance = (shares * label_ranks**2).sum(1)
        correlations = []
        for values in predicted:
            ranks = centred_ranks(values, shares)
            variances = (shares * ranks**2).sum(1) * label_variance
            correlations.append(ratio((shares * ranks * label_ranks).sum(1), np.sqrt(variances)))
        return np.stack(correlations, axis=1)

    return Measure(len(predicted), len(labels), score)


def bleu(counts: np.ndarray) -> Measure:
    """BLEU of a corpus as a fraction, as sacreBLEU computes it by default (smoothing "exp").

    Args:
        counts: [S, n, 10], see `metakd.translation.evaluation.bleu_rows`.
    """
    seeds, rows, _ = counts.shape
    columns = np.moveaxis(counts, 0, 1).reshape(rows, -1).astype(float)

    def score(shares: np.ndarray) -> np.ndarray:
        sums = (rows * shares @ columns).reshape(len(shares), seeds, 10)
        length, reference, matches, totals = sums[..., 0], sums[..., 1], sums[..., 2:6], sums[..., 6:]
        none = matches < 0.5  # each length without a match counts half as much as the one before
        smoothed = np.where(none, 0.5 ** none.cumsum(-1), matches)
        precision = ratio(smoothed, totals)
        brevity = np.exp(np.minimum(0.0, 1 - ratio(reference, length)))
        with np.errstate(divide="ignore"):
            mean = np.exp(np.log(precision).mean(-1))
        return np.where(none.all(-1), 0.0, brevity * mean)

    return Measure(seeds, rows, score)


def centred_ranks(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Ranks [B, n] of numbers [n] in resamples, as fractions less their mean; equal numbers share a rank."""
    _, group = np.unique(values, return_inverse=True)
    order = group.argsort(kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    group_shares = np.add.reduceat(shares[:, order], starts, axis=1)
    return (group_shares.cumsum(1) - group_shares / 2 - 0.5)[:, group]


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The ratio; 0 where the denominator is 0 but for rounding."""
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 1e-12)


@dataclass(frozen=True)
class SeedScores:
    """Scores of one method, or differences between two, for each seed.

    Args:
        scores: on all rows [S].
        resampled: on resampled rows [B, S].
        rows: number of rows.
    """

    scores: np.ndarray
    resampled: np.ndarray
    rows: int

    @property
    def vary(self) -> bool:
        """Whether seeds differ; a majority class or a regression on embeddings has no randomness."""
        return bool((self.resampled != self.resampled[:, :1]).any())

    def __sub__(self, other: SeedScores) -> SeedScores:
        return SeedScores(self.scores - other.scores, self.resampled - other.resampled, self.rows)


def bootstrap(
    measures: Mapping[str, Mapping[str, Measure]], resamples: int = 10_000, seed: int = 0
) -> dict[str, dict[str, SeedScores]]:
    """Scores by method and domain, on all rows and on rows resampled within each domain.

    All methods and seeds are scored on the same resamples, so their differences are paired.

    Args:
        measures: by method and domain, with the same rows and seeds in the same order. A method without randomness
            repeats its predictions for every seed.

    Raises:
        InputError: methods differ in domains, or in the number of seeds or rows of a domain.
    """
    check_same_rows(measures)
    table: dict[str, dict[str, SeedScores]] = {name: {} for name in measures}
    for number, domain in enumerate(next(iter(measures.values()))):
        column = [by_domain[domain] for by_domain in measures.values()]
        resampled = resampled_scores(column, resamples, np.random.default_rng([seed, number]))
        for name, measure, scores in zip(measures, column, resampled, strict=True):
            all_rows = np.full((1, measure.rows), 1 / measure.rows)
            table[name][domain] = SeedScores(measure.score(all_rows)[0], scores, measure.rows)
    return table


def check_same_rows(measures: Mapping[str, Mapping[str, Measure]]) -> None:
    """Refuse methods that cannot be paired."""
    first_name, first = next(iter(measures.items()))
    for name, by_domain in measures.items():
        if list(by_domain) != list(first):
            raise InputError(
                f"{first_name} has results in the domains {list(first)}, {name} in {list(by_domain)}; compare methods "
                "in the same domains, in one order"
            )
        for domain, measure in by_domain.items():
            numbers = [(each.seeds, each.rows) for each in (first[domain], measure)]
            if numbers[0] != numbers[1]:
                raise InputError(
                    f"domain {domain!r}: {first_name} has (seeds, rows) {numbers[0]}, {name} has {numbers[1]}; compare "
                    "methods on the same seeds and rows"
                )


def resampled_scores(measures: Sequence[Measure], resamples: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Scores [B, S] of each measure on the same resampled rows."""
    rows = measures[0].rows
    at_once = max(1, DRAWN_AT_ONCE // rows)
    chunks = []
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = generator.integers(rows, size=(size, rows)) + rows * np.arange(size)[:, None]
        shares = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows) / rows
        chunks.append([measure.score(shares) for measure in measures])
    return [np.concatenate(scores) for scores in zip(*chunks, strict=True)]


def macro_average(by_domain: Mapping[str, SeedScores]) -> SeedScores:
    """The mean over domains, for each seed.

    Raises:
        InputError: domains differ in their number of seeds.
    """
    seeds = {domain: len(scores.scores) for domain, scores in by_domain.items()}
    if len(set(seeds.values())) > 1:
        raise InputError(f"the domains have different numbers of seeds, {seeds}; average over the same seeds")
    domains = by_domain.values()
    return SeedScores(
        np.mean([scores.scores for scores in domains], axis=0),
        np.mean([scores.resampled for scores in domains], axis=0),
        sum(scores.rows for scores in domains),
    )
