"""Train, dev and test: stratified, and with related rows in the same split."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from metakd.data.tables import Row, write_rows
from metakd.steps import Step

log = logging.getLogger(__name__)


def normalised(text: str) -> str:
    """A text without differences of case and white space; texts count as identical if this is equal."""
    return " ".join(text.split()).casefold()


def group_numbers(rows: Sequence[Row], documents: Sequence[str] | None = None) -> list[int]:
    """A group number per row: a chain of rows with identical texts or equal documents is one group."""
    first_row: dict[tuple[str, ...], int] = {}
    links: list[tuple[int, int]] = []
    for i, row in enumerate(rows):
        keys: list[tuple[str, ...]] = [("text", normalised(row["text_a"]), normalised(row["text_b"]))]
        if documents is not None:
            keys.append(("document", documents[i]))
        links += [(i, first_row.setdefault(key, i)) for key in keys]
    ends = np.array(links, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(rows), len(rows)))
    return connected_components(graph, directed=False)[1].tolist()


def split(
    rows: Sequence[Row], shares: dict[str, float], seed: int, documents: Sequence[str] | None = None
) -> dict[str, list[Row]]:
    """Deal rows into splits, stratified by domain and label. Rows of a split keep their order.

    Groups of rows (see `group_numbers`) stay whole. They are dealt in random order, but large ones first; each goes
    to the split that still lacks most rows of the group's strata.

    Args:
        shares: fraction of the rows for each split; they add up to 1.
        documents: one key per row; rows with equal keys stay together.
    """
    strata = [(row["domain"], row["label"]) for row in rows]
    lacking = {
        (name, stratum): share * count for stratum, count in Counter(strata).items() for name, share in shares.items()
    }
    rows_by_group: dict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(group_numbers(rows, documents)):
        rows_by_group[group].append(i)
    groups = list(rows_by_group.values())
    order = np.random.default_rng(seed).permutation(len(groups))
    indices: dict[str, list[int]] = {name: [] for name in shares}
    for group_rows in sorted((groups[i] for i in order), key=len, reverse=True):
        name = max(shares, key=lambda s: sum(lacking[s, strata[i]] / shares[s] for i in group_rows))
        indices[name] += group_rows
        for i in group_rows:
            lacking[name, strata[i]] -= 1
    return {name: [rows[i] for i in sorted(split_rows)] for name, split_rows in indices.items()}


def limit_rows(rows: Sequence[Row], most: int, seed: int) -> list[Row]:
    """At most `most` rows of each domain: a random sample with the labels in proportion, in the order of `rows`."""
    generator = np.random.default_rng(seed)
    sampled: list[int] = []
    for domain in sorted({row["domain"] for row in rows}):
        indices = [i for i, row in enumerate(rows) if row["domain"] == domain]
        if len(indices) > most:
            indices = _proportional_sample(rows, generator.permutation(indices).tolist(), most)
        sampled += indices
    return [rows[i] for i in sorted(sampled)]


def _proportional_sample(rows: Sequence[Row], indices: list[int], size: int) -> list[int]:
    """The first indices of each label, `size` in all; quotas are rounded by the largest remainder."""
    by_label: dict[str, list[int]] = defaultdict(list)
    for i in indices:
        by_label[rows[i]["label"]].append(i)
    quotas = {label: size * len(of_label) / len(indices) for label, of_label in by_label.items()}
    counts = {label: int(quota) for label, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda label: counts[label] - quotas[label])
    for label in by_remainder[: size - sum(counts.values())]:
        counts[label] += 1
    return [i for label, of_label in by_label.items() for i in of_label[: counts[label]]]


def write_splits(step: Step, splits: dict[str, list[Row]]) -> None:
    """Write each split as NAME.tsv to the step's output, and log the number of rows of each domain."""
    for domain in sorted({row["domain"] for rows in splits.values() for row in rows}):
        sizes = {name: sum(row["domain"] == domain for row in rows) for name, rows in splits.items()}
        log.info("%-14s %s", domain, "  ".join(f"{name} {size}" for name, size in sizes.items()))
    with step.workspace() as folder:
        if folder is not None:
            for name, rows in splits.items():
                write_rows(folder / f"{name}.tsv", rows)
