"""Pieces of long texts, as rows without labels to show to a student: it learns what the teacher says of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from metakd.cli import run
from metakd.data.formats import TableError, require_format
from metakd.data.pieces import pieces
from metakd.data.tables import TRAINING, Row, read_rows, write_rows
from metakd.errors import InputError
from metakd.ranges import Count
from metakd.steps import Step

log = logging.getLogger(__name__)


def main(table: Path, out: Path, words: Count = 50, remake: bool = False) -> None:
    """Cut the long texts of a table into pieces and write these as a table for `task.unlabelled`.

    A text is cut evenly into its number of words divided by WORDS pieces, rounded: at 50 words a piece has 37 to 62,
    and a text of less than 75 words would stay whole and is left out. Pieces hold all words, also those behind the
    task's max_length. Cut the training table alone: dev and test rows are no rows to learn from.

    Args:
        table: the training table. Its labels are not copied: a piece may say the contrary of its whole.
        out: the table of pieces; its suffix names the format.
        words: words of a piece, counted between white space.
        remake: make it anew if other code made it.
    """
    require_format(out)
    step = Step(out, {"words": words}, {"table": table}, file=True, remake=remake)
    if step.finished():
        return
    require_long_text(table, words)
    with step.workspace() as file:
        if file is not None:
            count = write_rows(file, pieces_of_rows(single_texts(table), words), out.suffix)
            log.info("%s: %d pieces", out, count)


def require_long_text(table: Path, words: int) -> None:
    """Read the table to its end; raise InputError if a row is wrong or none would be cut."""
    if not sum(1 for _ in pieces_of_rows(single_texts(table), words)):
        raise InputError(
            f"--words {words}: no text of {table} has 1.5 times as many words, divided by spaces; name a smaller number"
        )


def single_texts(table: Path) -> Iterator[Row]:
    """The rows of a table; a pair is refused, for a piece of one text is not what its other text speaks of."""
    for number, row in enumerate(read_rows(table, required=TRAINING), 1):
        if row["text_b"].strip():
            raise TableError(table, "is not empty; pairs cannot be cut into pieces", number, "text_b")
        yield row


def pieces_of_rows(rows: Iterable[Row], words: int) -> Iterator[Row]:
    """Each piece as a row without label, with the guid of its text and its number; texts of one piece are left out."""
    for row in rows:
        parts = pieces(row["text_a"], words)
        for number, part in enumerate(parts if len(parts) > 1 else [], 1):
            yield {"guid": f"{row['guid']}-piece{number}", "text_a": part, "text_b": "", "label": "",
                   "domain": row["domain"]}  # fmt: skip


if __name__ == "__main__":
    run(main)
