"""The rows that a method's translator learns from: references, the teacher's hypotheses, or both."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import sacrebleu

from metakd.data.formats import TableError, read
from metakd.data.tables import Row, read_rows
from metakd.errors import InputError
from metakd.translation.settings import PAIRS, Targets

log = logging.getLogger(__name__)


def target_rows(train: Path, translations: Path, targets: Targets) -> Iterator[Row]:
    """The training table with the targets of a method as labels.

    Hypotheses that are empty, or reached the longest length before their end, are passed over; a row without another
    one is left out, except that "both" keeps its reference.

    Args:
        train: the training table.
        translations: of its rows, by translate.py, in the order of the table.

    Raises:
        InputError: the translations are of other rows, or none of them is whole.
    """
    whole, left_out = 0, 0
    scorer = sacrebleu.BLEU(effective_order=True)
    translated = groupby(hypotheses(translations, ("ended",)), key=itemgetter("guid"))
    several = False
    for number, row in enumerate(read_rows(train, required=PAIRS), 1):
        guid, group = next(translated, (None, iter(())))
        candidates = list(group)
        several |= len(candidates) > 1
        if guid != row["guid"] or candidates[0]["source"] != row["text_a"]:
            raise InputError(
                f"{translations} has {guid!r} where row {number} of {train} is {row['guid']!r}, or another source: it "
                "was made from another table; translate this one"
            )
        if targets == "both":
            yield row
        texts = [one["hypothesis"] for one in candidates if one["hypothesis"] and one["ended"] != "no"]
        if targets == "closest":
            texts.sort(key=lambda text: -scorer.sentence_score(text, [row["label"]]).score)
        if texts:
            whole += 1
            guid = f"{row['guid']}#teacher" if targets == "both" else row["guid"]
            yield {**row, "guid": guid, "label": texts[0]}
        else:
            left_out += 1
    if (extra := next(translated, None)) is not None:
        raise InputError(f"{translations} goes on with {extra[0]!r}, which {train} does not have; translate this table")
    if targets == "closest" and not several:
        raise InputError(f"{translations} has one hypothesis of each row; translate with --nbest 5 to have a choice")
    if not whole:
        raise InputError(
            f"{translations}: all translations are empty or reach the longest length before their end, as those of a "
            "teacher that has learnt too little; train the teacher longer"
        )
    if left_out:
        text = "%s: %d of %d rows have no translation that ends before the longest length; theirs are no targets"
        log.warning(text, translations, left_out, whole + left_out)


def hypotheses(path: Path, more: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """The rows of a table that translate.py wrote.

    Args:
        more: columns that it must have, beside guid, source and hypothesis.

    Raises:
        TableError: it lacks a column.
    """
    required = ("guid", "source", "hypothesis", *more)
    for number, raw in enumerate(read(path), 1):
        missing = [name for name in required if raw.get(name) is None or raw[name] != raw[name]]  # NaN is not itself
        if missing:
            raise TableError(path, "is missing; name a table of translate.py with all columns", number, missing[0])
        yield {name: "" if raw[name] is None else str(raw[name]) for name in raw}
