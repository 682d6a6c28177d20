"""One labelled table to train, dev and test tables."""

from __future__ import annotations

import logging
from pathlib import Path

from metakd.cli import run
from metakd.data import splits
from metakd.data.labels import ProblemType, stratum
from metakd.data.tables import TRAINING, Row, read_rows
from metakd.errors import InputError, name_list, nearest
from metakd.ranges import BelowOne
from metakd.steps import Step

log = logging.getLogger(__name__)


def main(
    table: Path,
    out: Path,
    dev: BelowOne = 0.1,
    test: BelowOne = 0.1,
    train_only: list[str] | None = None,
    problem: ProblemType = "single_label",
    seed: int = 1,
    remake: bool = False,
) -> None:
    """Write train.tsv, dev.tsv and test.tsv, dealt from the rows of one table by domain and class.

    Rows with identical texts (up to case and white space) are all in one of the three. Rows without label are in train,
    or left out where their text is in dev or test.

    Args:
        table: TSV, CSV, JSONL or Parquet: guid, text_a, text_b, label, domain. Further columns are not copied.
        out: folder for the tables.
        dev: fraction of the rows with label, to choose epochs on.
        test: fraction of the rows with label, to evaluate on.
        train_only: domains whose rows are all in train, e.g. a new one with fifteen labels.
        problem: as the task file will say; of a regression the numbers are not considered.
        seed: of the deal.
        remake: make the tables anew if other code made them.
    """
    if not 0 < dev < 1 - test < 1:
        raise InputError(f"--dev is {dev} and --test {test}; each must be above 0, and both together below 1")
    settings = {"dev": dev, "test": test, "train_only": train_only, "problem": problem, "seed": seed}
    step = Step(out, settings, {"table": table}, remake=remake)
    if step.finished():
        return
    rows = list(read_rows(table, required=TRAINING))
    domains = sorted({row["domain"] for row in rows})
    for domain in train_only or ():
        if domain not in domains:
            raise InputError(f"--train_only: {domain!r} is not among {name_list(domains)}{nearest(domain, domains)}")
    dealt = [row for row in rows if row["label"] and row["domain"] not in (train_only or ())]
    tables = deal(dealt, {"train": 1 - dev - test, "dev": dev, "test": test}, problem, seed)
    for domain in sorted({row["domain"] for row in dealt}):
        sizes = {name: sum(row["domain"] == domain for row in part) for name, part in tables.items()}
        if not all(sizes.values()):
            raise InputError(
                f"{table}: domain {domain!r} has too few rows with different texts for three tables: {sizes}; "
                f"add some, or keep it in train by --train_only '[{domain}]'"
            )
    held_out = {text_of(row) for name in ("dev", "test") for row in tables[name]}
    tables["train"] = [row for row in rows if text_of(row) not in held_out]
    if left_out := len(rows) - sum(map(len, tables.values())):
        log.warning("%s: %d rows with a text of dev or test are left out of train", table, left_out)
    splits.write_splits(step, tables)


def deal(rows: list[Row], shares: dict[str, float], problem: ProblemType, seed: int) -> dict[str, list[Row]]:
    """The rows of each table, stratified by domain and class; rows of a table keep their order."""
    row_of = {row["guid"]: row for row in rows}
    classes = [{**row, "label": stratum(row["label"], problem)} for row in rows]
    return {name: [row_of[row["guid"]] for row in part] for name, part in splits.split(classes, shares, seed).items()}


def text_of(row: Row) -> tuple[str, str]:
    return splits.normalised(row["text_a"]), splits.normalised(row["text_b"])


if __name__ == "__main__":
    run(main)
