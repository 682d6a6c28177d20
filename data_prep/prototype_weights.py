"""The training table with a weight column: the prototype score of each row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tabulate import tabulate

from metakd.cli import run
from metakd.config import Task
from metakd.data.few_labels import visible_labels
from metakd.data.formats import Row
from metakd.data.labels import stratum
from metakd.data.row_store import RowStore
from metakd.data.tables import TRAINING, read_rows, write_rows
from metakd.errors import InputError
from metakd.manifests import MANIFEST, content_hash
from metakd.methods.method import Method
from metakd.steps import Step
from metakd.training.plan import DomainSelection
from metakd.weighting.prototypes import prototype_scores


def main(
    task: Task,
    method: Method,
    embeddings: Path,
    out: Path,
    domain: str = "",
    fraction: float = 1.0,
    exclude_domain: str = "",
    remake: bool = False,
) -> None:
    """Write task.train with a weight column, the prototype score t of each row, from 0 to 1.

    A single domain gives 1 everywhere. A class that no other domain has counts by its own prototype alone. Negative
    scores become 0. Rows whose label is missing or hidden get no weight. For a few-shot or zero-shot student give the
    same --domain, --fraction and --exclude_domain as to train_teacher.py, so that prototypes know no hidden label.

    Args:
        task: task file (YAML), for the table, the problem and the seed.
        method: method file (YAML), for `prototypes`: variant and alpha.
        embeddings: folder made from the same table by extract_embeddings.py.
        out: the weighted table; its suffix names the format.
        domain: the domain that --fraction is about.
        fraction: fraction of the labels of --domain that are visible.
        exclude_domain: a domain whose labels are all hidden.
        remake: make the table anew if other code made it.
    """
    if method.prototypes is None:
        raise InputError("the method file has no prototypes, so nothing is weighted by them")
    task.require("train")
    selection, table = DomainSelection(domain, fraction, exclude_domain), Path(task.train)
    settings = {"prototypes": method.prototypes, "selection": selection, "problem": task.problem}
    settings["seed"] = task.training.seed if fraction < 1 else None  # chooses the visible labels
    step = Step(out, settings, {"table": table, "embeddings": embeddings}, file=True, remake=remake)
    if step.finished():
        return
    check_embeddings(table, embeddings)
    rows = [(row["guid"], row["label"], row["domain"]) for row in read_rows(table, required=TRAINING)]
    guid_column, label_column, domain_column = zip(*rows, strict=True)
    selection.check_domains(sorted(set(domain_column)))
    strata = [stratum(label, task.problem) for label in label_column]
    label_names, labels = np.unique(strata, return_inverse=True)
    domain_names, domains = np.unique(domain_column, return_inverse=True)
    visible = (np.array(label_column) != "") & (np.array(domain_column) != exclude_domain)
    limited = np.flatnonzero(visible & (np.array(domain_column) == domain))
    visible[limited] = visible_labels(
        [guid_column[i] for i in limited], [strata[i] for i in limited], fraction, task.training.seed
    )
    if not visible.any():
        raise InputError(f"{table} has no row with a visible label; prototypes are made of labelled rows")
    store = RowStore(embeddings)
    store.require_guids(guid_column)
    hidden_as_minus_one = np.where(visible, domains, -1)
    variant, alpha = method.prototypes.variant, method.prototypes.alpha
    scores = prototype_scores(store.values, labels, hidden_as_minus_one, variant, alpha)
    with step.workspace() as file:
        if file is None:
            return
        write_rows(file, weighted_rows(table, scores), out.suffix)
    print(score_table(scores, domains, labels, visible, list(domain_names), list(label_names)))
    if not visible.all():
        print(f"{(~visible).sum()} rows without a visible label have no weight")


def weighted_rows(table: Path, scores: np.ndarray) -> Iterator[Row]:
    """The rows of a table with their scores as weights."""
    for row, score in zip(read_rows(table, required=TRAINING), scores, strict=True):
        yield {**row, "weight": None if np.isnan(score) else float(score)}


def score_table(
    scores: np.ndarray,
    domains: np.ndarray,
    labels: np.ndarray,
    visible: np.ndarray,
    domain_names: list[str],
    label_names: list[str],
) -> str:
    """Number of rows, mean, minimum and maximum of the scores of each domain and label."""
    lines = []
    for k, domain in enumerate(domain_names):
        for m, label in enumerate(label_names):
            chosen = scores[(domains == k) & (labels == m) & visible]
            if len(chosen):
                lines.append([domain, label, len(chosen), chosen.mean(), chosen.min(), chosen.max()])
    return tabulate(lines, ["domain", "label", "rows", "mean", "min", "max"], tablefmt="plain", floatfmt=".3f")


def check_embeddings(table: Path, embeddings: Path) -> None:
    """Refuse embeddings that were made from a table of other content."""
    manifest = embeddings / MANIFEST
    if not manifest.is_file():
        raise InputError(f"{embeddings} has no {MANIFEST}; make it with extract_embeddings.py")
    if json.loads(manifest.read_text("utf-8"))["inputs"]["table"] != content_hash(table):
        raise InputError(
            f"{embeddings} was made from another table than {table}, or the table has changed since; extract the "
            "embeddings again"
        )


if __name__ == "__main__":
    run(main)
