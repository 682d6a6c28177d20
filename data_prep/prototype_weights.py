"""Prototype weights: how typical each row is of its class in all domains (Meta-KD, section 3.2)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from metakd.cli import run
from metakd.data.few_labels import visible
from metakd.data.labels import ProblemType, stratum
from metakd.data.row_store import RowStore
from metakd.data.tables import TRAINING, Row, read_rows, write_rows
from metakd.errors import InputError, nearest
from metakd.manifests import MANIFEST, content_hash
from metakd.steps import Step
from metakd.weighting.prototypes import prototype_scores


def main(
    table: Path,
    embeddings: Path,
    out: Path,
    variant: Literal["paper", "released"] = "paper",
    alpha: float = 0.5,
    domain: str = "",
    fraction: float = 1.0,
    exclude_domain: str = "",
    seed: int = 1,
    problem: ProblemType = "single_label",
) -> None:
    """Write the table with a weight column, the prototype score t of each row, from 0 to 1.

    A single domain gives 1 everywhere. A class that no other domain has counts by its own prototype alone.
    Negative scores become 0. Rows whose label is missing or may not be seen get no weight. For a few-shot or
    zero-shot student give the options of train_teacher.py here too, so that no hidden label enters a prototype.

    Args:
        table: TSV, CSV, JSONL or Parquet.
        embeddings: folder made from this table by extract_embeddings.py.
        out: the weighted table; its suffix names the format.
        variant: "paper" compares with the prototypes of the row's class, "released" (the released code) with
            those of the domains without regard to classes.
        alpha: weight of the own domain in the paper's variant, 0 to 1.
        domain: the one that --fraction is about.
        fraction: share of the labels of --domain that may be seen, as in train_teacher.py.
        exclude_domain: a domain none of whose labels may be seen.
        seed: of the choice of those labels; that of the training, --task.training.seed.
        problem: of the task; in "multi_label" the same set of labels is one class, in "regression" there are none.
    """
    if fraction != 1 and not domain:
        raise InputError(f"--fraction {fraction}: name the domain that it is about with --domain")
    if not 0 <= alpha <= 1:
        raise InputError(f"--alpha is {alpha}; it must be from 0 to 1")
    if variant == "released" and alpha != 0.5:
        raise InputError("--alpha belongs to --variant paper; the released code counts both parts by half")
    seen_from = {"domain": domain, "fraction": fraction, "exclude_domain": exclude_domain, "seed": seed,
                 "problem": problem}  # fmt: skip
    settings = {"variant": variant, "alpha": alpha, **seen_from}
    step = Step(out, settings, {"table": table, "embeddings": embeddings}, file=True)
    if step.finished():
        return
    check_table(table, embeddings)
    columns = ("guid", "label", "domain")
    guid, label, domain_of = zip(
        *([row[c] for c in columns] for row in read_rows(table, required=TRAINING)), strict=True
    )
    for option, name in (("--domain", domain), ("--exclude_domain", exclude_domain)):
        if name and name not in domain_of:
            known = sorted(set(domain_of))
            raise InputError(f"{option} {name}: {table} has {known}{nearest(name, known)}")
    strata = [stratum(value, problem) for value in label]
    label_names, labels = np.unique(strata, return_inverse=True)
    domain_names, domains = np.unique(domain_of, return_inverse=True)
    seen = (np.array(label) != "") & (np.array(domain_of) != exclude_domain)
    few = np.flatnonzero(seen & (np.array(domain_of) == domain))
    seen[few] = visible([guid[i] for i in few], [strata[i] for i in few], fraction, seed)
    if not seen.any():
        raise InputError(f"{table} has no row whose label may be seen; prototypes are made of labelled rows")
    store = RowStore(embeddings)
    store.check(guid)
    scores = prototype_scores(store.values, labels, np.where(seen, domains, -1), variant, alpha)
    with step.workspace() as file:
        if file is None:
            return
        write_rows(file, weighted(table, scores), out.suffix)
    print(f"{'domain':<16}{'label':<16}{'rows':>7}{'mean':>8}{'min':>8}{'max':>8}")
    for k, domain_name in enumerate(domain_names):
        for m, label_name in enumerate(label_names):
            found = scores[(domains == k) & (labels == m) & seen]
            if len(found):
                numbers = f"{len(found):>7}{found.mean():>8.3f}{found.min():>8.3f}{found.max():>8.3f}"
                print(f"{domain_name:<16}{label_name:<16}{numbers}")
    if not seen.all():
        print(f"{(~seen).sum()} rows without a label to be seen have no weight")


def weighted(table: Path, scores: np.ndarray) -> Iterator[Row]:
    for row, score in zip(read_rows(table, required=TRAINING), scores, strict=True):
        yield {**row, "weight": None if np.isnan(score) else float(score)}


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
