"""Train, dev and test, stratified, with rows that belong together kept in one split."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from metakd.data.tables import Row, write_rows
from metakd.steps import Step

log = logging.getLogger(__name__)


def normalised(text: str) -> str:
    """A text without case and white space differences: the measure of "identical"."""
    return " ".join(text.split()).casefold()


def connected(rows: Sequence[Row], documents: Sequence[str] | None = None) -> list[int]:
    """A group number per row: rows share one if a chain of equal texts or equal documents links them."""
    parent = list(range(len(rows)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, ...], int] = {}
    for index, row in enumerate(rows):
        keys: list[tuple[str, ...]] = [("text", normalised(row["text_a"]), normalised(row["text_b"]))]
        if documents is not None:
            keys.append(("document", documents[index]))
        for key in keys:
            parent[root(index)] = root(first.setdefault(key, index))
    return [root(index) for index in range(len(rows))]


def split(
    rows: Sequence[Row], shares: dict[str, float], seed: int, documents: Sequence[str] | None = None
) -> dict[str, list[Row]]:
    """Deal the rows into splits, stratified by domain and label.

    Whole groups (`connected`) are dealt in a seeded order, the large ones first, each to the split that
    lacks most of the group's strata. Order within a split is the order of `rows`.

    Args:
        shares: share of each split; they add up to 1.
        documents: one key per row; rows with the same key stay together.
    """
    strata = [(row["domain"], row["label"]) for row in rows]
    missing: dict[tuple[str, tuple[str, str]], float] = {}
    for stratum in set(strata):
        for name, share in shares.items():
            missing[name, stratum] = share * strata.count(stratum)
    groups: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(connected(rows, documents)):
        groups[group].append(index)
    members = list(groups.values())
    order = np.random.default_rng(seed).permutation(len(members))
    members = sorted((members[i] for i in order), key=len, reverse=True)
    chosen: dict[str, list[int]] = {name: [] for name in shares}
    for group_rows in members:
        name = max(shares, key=lambda s: sum(missing[s, strata[i]] / shares[s] for i in group_rows))
        chosen[name] += group_rows
        for i in group_rows:
            missing[name, strata[i]] -= 1
    return {name: [rows[i] for i in sorted(indices)] for name, indices in chosen.items()}


def limit(rows: Sequence[Row], most: int, seed: int) -> list[Row]:
    """At most `most` rows of each domain, labels in proportion, in the order of `rows`."""
    generator = np.random.default_rng(seed)
    kept: list[int] = []
    for domain in sorted({row["domain"] for row in rows}):
        of_domain = [i for i, row in enumerate(rows) if row["domain"] == domain]
        if len(of_domain) > most:
            by_label: dict[str, list[int]] = defaultdict(list)
            for i in generator.permutation(of_domain):
                by_label[rows[i]["label"]].append(int(i))
            quotas = {label: most * len(found) / len(of_domain) for label, found in by_label.items()}
            whole = {label: int(quota) for label, quota in quotas.items()}
            rest = sorted(quotas, key=lambda label: whole[label] - quotas[label])[: most - sum(whole.values())]
            of_domain = [i for label in quotas for i in by_label[label][: whole[label] + (label in rest)]]
        kept += of_domain
    return [rows[i] for i in sorted(kept)]


def publish(step: Step, splits: dict[str, list[Row]]) -> None:
    """Write each split as NAME.tsv, and say how many rows of each domain it has."""
    for domain in sorted({row["domain"] for rows in splits.values() for row in rows}):
        sizes = {name: sum(row["domain"] == domain for row in rows) for name, rows in splits.items()}
        log.info("%-14s %s", domain, "  ".join(f"{name} {size}" for name, size in sizes.items()))
    with step.workspace() as folder:
        if folder is not None:
            for name, rows in splits.items():
                write_rows(folder / f"{name}.tsv", rows)
