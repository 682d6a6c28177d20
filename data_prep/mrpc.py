"""Microsoft Research Paraphrase Corpus (Dolan, Quirk & Brockett, COLING 2004): sentence pairs, two classes.

The published files are UTF-8 with a byte order mark and CRLF; quotation marks in them are plain characters.
The test table is the published test file; dev is a fraction of the train file, by label. Pairs with a common sentence
are all in train or all in dev, but the published test file has some sentences of the train file.
"""

from __future__ import annotations

from pathlib import Path

from metakd.cli import run
from metakd.data import splits
from metakd.data.formats import decode_utf8
from metakd.data.tables import Row
from metakd.errors import InputError
from metakd.steps import Step

HEADER = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
LABELS = {"1": "paraphrase", "0": "not_paraphrase"}


def main(source: Path, out: Path, dev: float = 0.1, seed: int = 1, remake: bool = False) -> None:
    """Write train.tsv, dev.tsv and test.tsv of MRPC.

    Args:
        source: folder with msr_paraphrase_train.txt and msr_paraphrase_test.txt.
        out: folder for the tables.
        dev: fraction of the train file that becomes dev, between 0 and 1.
        seed: seed of the split of the train file into train and dev.
        remake: make it anew if other code made it.
    """
    if not 0 < dev < 1:
        raise InputError(f"--dev is {dev}; it must be between 0 and 1")
    files = {name: source / f"msr_paraphrase_{name}.txt" for name in ("train", "test")}
    for path in files.values():
        if not path.is_file():
            raise InputError(f"--source {source}: {path} is missing; name the folder that holds it")
    step = Step(out, {"dev": dev, "seed": seed}, dict(files), remake=remake)
    if step.finished():
        return
    rows = read(files["train"], "train")
    tables = splits.split(rows, {"train": 1 - dev, "dev": dev}, seed, sentence_groups(rows))
    for name, split_rows in tables.items():
        if not split_rows:
            raise InputError(f"--dev {dev} leaves no row for {name}; choose a value nearer to 0.1")
    tables["test"] = read(files["test"], "test")
    splits.write_splits(step, tables)


def read(path: Path, source: str) -> list[Row]:
    """The rows of a published file; a guid is the name of the split and the ids of the two sentences."""
    rows: list[Row] = []
    line_of: dict[str, int] = {}
    header, *lines = read_lines(path)
    names = header.split("\t")
    if names != HEADER:
        raise InputError(f"{path}, line 1: the header is {names}, not {HEADER}; get the file again")
    for number, line in enumerate(lines, 2):
        values = line.split("\t")
        if len(values) != len(HEADER):
            raise InputError(f"{path}, line {number}: has {len(values)} fields, not {len(HEADER)}; get the file again")
        for name, value in zip(HEADER, values, strict=True):
            if not value.strip():
                raise InputError(f"{path}, line {number}, field {name!r}: is empty; fill it or remove the line")
        quality, first, second, text_a, text_b = values
        if quality not in LABELS:
            raise InputError(f"{path}, line {number}, field 'Quality': is {quality!r}; it must be 0 or 1")
        guid = f"{source}-{first}-{second}"
        if guid in line_of:
            raise InputError(
                f"{path}, line {number}: the ids {first} and {second} are those of line {line_of[guid]}; remove one"
            )
        line_of[guid] = number
        rows.append({"guid": guid, "text_a": text_a, "text_b": text_b, "label": LABELS[quality], "domain": "mrpc"})
    if not rows:
        raise InputError(f"{path}: has no rows; get the file again")
    return rows


def read_lines(path: Path) -> list[str]:
    """The lines of a file, without their ends. Only a line feed ends a line, so `str.splitlines` does not fit."""
    text = decode_utf8(path.read_bytes(), str(path))
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def sentence_groups(rows: list[Row]) -> list[str]:
    """A key per pair; a chain of pairs with common sentences has one key."""
    sentences = [{"text_a": row[name], "text_b": ""} for row in rows for name in ("text_a", "text_b")]
    pairs = [row["guid"] for row in rows for _ in range(2)]
    return [str(group) for group in splits.group_numbers(sentences, pairs)[::2]]


if __name__ == "__main__":
    run(main)
