"""Prototype weights: how typical each row is of its class in all domains (Meta-KD, section 3.2)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from metakd.cli import run
from metakd.data.row_store import RowStore
from metakd.data.tables import Row, names, read_rows, write_rows
from metakd.errors import InputError
from metakd.manifests import MANIFEST, content_hash
from metakd.steps import Step
from metakd.weighting.prototypes import prototype_scores


def main(
    table: Path,
    embeddings: Path,
    out: Path,
    variant: Literal["paper", "released"] = "paper",
    alpha: float = 0.5,
) -> None:
    """Write the table with a weight column, the prototype score t of each row, from 0 to 1.

    A single domain gives 1 everywhere. A class that no other domain has counts by its own prototype alone.
    Negative scores become 0.

    Args:
        table: TSV, CSV, JSONL or Parquet.
        embeddings: folder made from this table by extract_embeddings.py.
        out: the weighted table; its suffix names the format.
        variant: "paper" compares with the prototypes of the row's class, "released" (the released code) with
            those of the domains without regard to classes.
        alpha: weight of the own domain in the paper's variant, 0 to 1.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"--alpha is {alpha}; it must be from 0 to 1")
    if variant == "released" and alpha != 0.5:
        raise InputError("--alpha belongs to --variant paper; the released code counts both parts by half")
    step = Step(out, {"variant": variant, "alpha": alpha}, {"table": table, "embeddings": embeddings}, file=True)
    if step.finished():
        return
    check_table(table, embeddings)
    label_names, domain_names = names(table)
    label_of, domain_of = ({name: i for i, name in enumerate(n)} for n in (label_names, domain_names))
    labels = np.array([label_of[row["label"]] for row in read_rows(table)])
    domains = np.array([domain_of[row["domain"]] for row in read_rows(table)])
    store = RowStore(embeddings)
    store.check([row["guid"] for row in read_rows(table)])
    scores = prototype_scores(store.values, labels, domains, variant, alpha)
    with step.workspace() as file:
        if file is None:
            return
        write_rows(file, weighted(table, scores), out.suffix)
    print(f"{'domain':<16}{'label':<16}{'rows':>7}{'mean':>8}{'min':>8}{'max':>8}")
    for k, domain in enumerate(domain_names):
        for m, label in enumerate(label_names):
            found = scores[(domains == k) & (labels == m)]
            if len(found):
                numbers = f"{len(found):>7}{found.mean():>8.3f}{found.min():>8.3f}{found.max():>8.3f}"
                print(f"{domain:<16}{label:<16}{numbers}")


def weighted(table: Path, scores: np.ndarray) -> Iterator[Row]:
    for row, score in zip(read_rows(table), scores, strict=True):
        yield {**row, "weight": float(score)}


def check_table(table: Path, embeddings: Path) -> None:
    """Refuse embeddings that were made from a table of other content."""
    manifest = embeddings / MANIFEST
    if not manifest.is_file():
        raise InputError(f"--embeddings {embeddings} has no {MANIFEST}; make it with extract_embeddings.py")
    if json.loads(manifest.read_text("utf-8"))["inputs"]["table"] != content_hash(table):
        raise InputError(
            f"--embeddings {embeddings} was made from another table than {table}, or the table has changed since; "
            f"run extract_embeddings.py --table {table} again"
        )


if __name__ == "__main__":
    run(main)
