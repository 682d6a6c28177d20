"""MultiNLI (Williams, Nangia & Bowman, NAACL 2018): sentence pairs, three classes; each genre is a domain.

As in the Meta-KD paper (section 4.1), dev_matched is the test table, and 10 % of train, by domain and label, are dev.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from metakd.cli import run
from metakd.data import splits
from metakd.data.tables import Row, TableError
from metakd.errors import InputError, nearest
from metakd.steps import Step

FIELDS = ("genre", "sentence1", "sentence2", "gold_label")


def main(
    train: Path, dev: Path, out: Path, genres: list[str] | None = None, seed: int = 1, remake: bool = False
) -> None:
    """Write train.tsv, dev.tsv and test.tsv of MultiNLI.

    Args:
        train: official JSONL (multinli_1.0_train.jsonl) or GLUE's train.tsv.
        dev: the matched dev file in either format; it becomes the test table.
        out: folder for the tables.
        genres: genres to keep, e.g. [fiction, travel]; by default all genres of the training file.
        seed: seed of the split of train into train and dev.
        remake: make it anew if other code made it.
    """
    step = Step(out, {"seed": seed, "genres": genres}, {"train": train, "dev": dev}, remake=remake)
    if step.finished():
        return
    rows = list(read(train, "train"))
    known = {row["domain"] for row in rows}
    for genre in genres or ():
        if genre not in known:
            raise InputError(f"--genres: {genre!r} is not among {sorted(known)}{nearest(genre, known)}")
    chosen = set(genres or known)
    rows = [row for row in rows if row["domain"] in chosen]
    premises = [row["text_a"] for row in rows]  # each comes with several hypotheses
    tables = splits.split(rows, {"train": 0.9, "dev": 0.1}, seed, premises)
    tables["test"] = [row for row in read(dev, "dev") if row["domain"] in chosen]
    splits.write_splits(step, tables)


def read(path: Path, source: str) -> Iterator[Row]:
    """Yield the rows with a gold label; guids are the published pair ids, or row numbers if there are none."""
    if not path.is_file():
        raise TableError(path, "no such file")
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        lines = read_jsonl(path, file) if path.suffix == ".jsonl" else read_glue(path, file)
        for number, row in enumerate(lines, 1):
            for name in FIELDS:
                if name not in row:
                    raise TableError(path, "no such field; is this the official JSONL or GLUE's TSV?", number, name)
                if not isinstance(row[name], str) or has_surrogates(row[name]):
                    raise TableError(path, "is not UTF-8 text; get the file again", number, name)
            if row["gold_label"] == "-":  # the judges did not agree
                continue
            texts = [" ".join(row[name].split()) for name in ("sentence1", "sentence2")]
            if not all(texts):  # a handful of official rows have an empty hypothesis
                continue
            yield {"guid": f"{source}-{row.get('pairID', number)}", "text_a": texts[0], "text_b": texts[1],
                   "label": row["gold_label"], "domain": row["genre"]}  # fmt: skip


def has_surrogates(text: str) -> bool:
    """Whether a text has lone surrogates: they stand for invalid UTF-8 bytes."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def read_jsonl(path: Path, lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Yield the fields of each row of the official JSONL."""
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise TableError(path, f"is not JSON ({error})", number) from None


def read_glue(path: Path, lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Yield the fields of each row of GLUE's TSV, which has no quoting: a quotation mark is a character."""
    header = next(lines, "").rstrip("\r\n").split("\t")
    for number, line in enumerate(lines, 1):
        values = line.rstrip("\r\n").split("\t")
        if len(values) != len(header):
            raise TableError(path, f"has {len(values)} fields, the header {len(header)}", number)
        yield dict(zip(header, values, strict=True))


if __name__ == "__main__":
    run(main)
