"""The training table with a weight column: the prototype score of each row."""

from __future__ import annotations

from array import array
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
from metakd.evaluation.text import shorten
from metakd.manifests import MANIFEST, changed_afterwards, content_hash, read_json
from metakd.methods.method import Method
from metakd.steps import Step
from metakd.training.plan import DomainSelection
from metakd.weighting.prototypes import prototype_scores

MOST_LINES = 20  # of the table of scores
LONGEST_NAME = 40  # letters of a name in it


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
    guids, labels, domains = [], Numbering(), Numbering()
    labelled = []
    for row in read_rows(table, required=TRAINING):
        guids.append(row["guid"])
        labels.append(stratum(row["label"], task.problem))
        domains.append(row["domain"])
        labelled.append(row["label"] != "")
    (label_names, label_of_row), (domain_names, domain_of_row) = labels.sorted(), domains.sorted()
    selection.check_domains(domain_names)
    visible = np.array(labelled)
    if exclude_domain:
        visible &= domain_of_row != domain_names.index(exclude_domain)
    if domain:
        limited = np.flatnonzero(visible & (domain_of_row == domain_names.index(domain)))
        visible[limited] = visible_labels(
            [guids[i] for i in limited], label_of_row[limited].tolist(), fraction, task.training.seed
        )
    if not visible.any():
        raise InputError(f"{table} has no row with a visible label; prototypes are made of labelled rows")
    store = RowStore(embeddings)
    store.require_guids(guids)
    hidden_as_minus_one = np.where(visible, domain_of_row, -1)
    variant, alpha = method.prototypes.variant, method.prototypes.alpha
    try:
        scores = prototype_scores(store.values, label_of_row, hidden_as_minus_one, variant, alpha)
    except InputError as error:
        raise InputError(f"{embeddings}: {error}") from None
    with step.workspace() as file:
        if file is None:
            return
        write_rows(file, weighted_rows(table, scores), out.suffix)
    print(score_table(scores, domain_of_row, label_of_row, visible, domain_names, label_names))
    if not visible.all():
        print(f"{(~visible).sum()} rows without a visible label have no weight")


class Numbering:
    """A number for each name of a column, without a copy of the names for each row."""

    def __init__(self) -> None:
        self.number_of: dict[str, int] = {}
        self.numbers = array("q")

    def append(self, name: str) -> None:
        self.numbers.append(self.number_of.setdefault(name, len(self.number_of)))

    def sorted(self) -> tuple[list[str], np.ndarray]:
        """The names, sorted, and the number of each row's name in that order [n]."""
        names = sorted(self.number_of)
        position = np.empty(len(names), dtype=np.int64)
        position[[self.number_of[name] for name in names]] = np.arange(len(names))
        return names, position[np.frombuffer(self.numbers, dtype=np.int64)]


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
    """Number of rows, mean, minimum and maximum of the scores of each domain and label.

    Of many, those with the lowest and the highest means.
    """
    scores = scores[visible]
    cells, cell_of_row = np.unique(domains[visible] * len(label_names) + labels[visible], return_inverse=True)
    starts = np.concatenate([[0], np.cumsum(np.bincount(cell_of_row))])[:-1]
    in_order = scores[np.argsort(cell_of_row, kind="stable")]
    counts = np.bincount(cell_of_row)
    means = np.add.reduceat(in_order, starts) / counts
    lowest, highest = np.minimum.reduceat(in_order, starts), np.maximum.reduceat(in_order, starts)
    lines = []
    for i in range(len(cells)) if len(cells) <= MOST_LINES else extremes(means):
        domain, label = divmod(cells[i], len(label_names))
        names = [shorten(name, LONGEST_NAME) for name in (domain_names[domain], label_names[label])]
        lines.append([*names, counts[i], means[i], lowest[i], highest[i]])
    table = tabulate(lines, ["domain", "label", "rows", "mean", "min", "max"], tablefmt="plain", floatfmt=".3f")
    hidden = len(cells) - len(lines)
    return f"{table}\n{hidden} more domains and labels lie between these" if hidden else table


def extremes(means: np.ndarray) -> list[int]:
    """The cells with the lowest and the highest means, `MOST_LINES` in all."""
    order = np.argsort(means, kind="stable").tolist()
    return order[: MOST_LINES // 2] + order[-MOST_LINES // 2 :]


def check_embeddings(table: Path, embeddings: Path) -> None:
    """Refuse embeddings that were made from a table of other content."""
    manifest = embeddings / MANIFEST
    if not manifest.is_file():
        raise InputError(f"{embeddings} has no {MANIFEST}; make it with extract_embeddings.py")
    if changed := changed_afterwards(embeddings, verify=True):
        raise InputError(f"{embeddings} was changed after it was finished: {changed}; extract the embeddings again")
    inputs = read_json(manifest).get("inputs")
    if not isinstance(inputs, dict) or "table" not in inputs:
        raise InputError(f"{manifest} is damaged; extract the embeddings again")
    if inputs["table"] != content_hash(table):
        raise InputError(
            f"{embeddings} was made from another table than {table}, or the table has changed since; extract the "
            "embeddings again"
        )


if __name__ == "__main__":
    run(main)
