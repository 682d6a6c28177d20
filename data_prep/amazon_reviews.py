"""Sentiment of Amazon reviews in four domains (Blitzer, Dredze & Pereira, ACL 2007), as in the Meta-KD paper.

Source: `sorted_data_acl` of the Multi-Domain Sentiment Dataset v2.0. Its files look like XML, but are not valid
XML: they have no root, bare ampersands and control characters. So the reviews are cut out of the text by their tags.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import logging
import re
import tarfile
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from sklearn.model_selection import StratifiedKFold

from metakd.cli import run
from metakd.data import splits
from metakd.data.formats import decode_utf8
from metakd.data.tables import Row
from metakd.errors import InputError
from metakd.ranges import Range
from metakd.steps import Step

log = logging.getLogger(__name__)

FOLDERS = {"books": "books", "dvd": "dvd", "electronics": "electronics", "kitchen": "kitchen_&_housewares"}
LABELS = ("positive", "negative")
# The order of the files decides the order of the rows, which the released split depends on.
FILES = {(domain, label): f"{folder}/{label}.review" for domain, folder in FOLDERS.items() for label in LABELS}
REVIEW = re.compile(r"^<review_text>\n(.*?)^</review_text>", re.MULTILINE | re.DOTALL)
CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
RELEASED_SEED = 11111
FOLDS = 5


def main(
    source: Path,
    out: Path,
    split: Literal["grouped", "released"] = "grouped",
    seed: int = 1,
    fold: Annotated[int, Range(1, FOLDS)] | None = None,
    remake: bool = False,
) -> None:
    """Write train.tsv, dev.tsv and test.tsv of the Amazon reviews.

    Args:
        source: the folder `sorted_data_acl` (or one that holds it), or the tar.gz as published.
        out: folder for the tables.
        split: "grouped" deals 80/10/10 and keeps identical reviews together; "released" is the split of the
            Meta-KD code in EasyNLP, in which some identical reviews straddle splits.
        seed: seed of the grouped split.
        fold: 1 to 5: this fifth of the reviews is the test table instead, and a tenth of the others dev. The test
            tables of all five, with one seed, hold every review once. Identical reviews stay together.
        remake: make it anew if other code made it.
    """
    if not source.exists():
        raise InputError(f"--source {source}: no such folder or file; name an existing one")
    if fold is not None and split == "released":
        raise InputError("--fold is a part of the grouped split; leave out --split released")
    files = read_tar(source) if source.is_file() else read_folder(source)
    rows = [row for (domain, label), text in files.items() for row in reviews(text, domain, label)]
    settings: dict[str, Any] = {"split": split, "seed": seed, "rows": rows_hash(rows)}
    if fold is not None:  # tables without folds are those of earlier versions
        settings["fold"] = fold
    step = Step(out, settings, {}, remake=remake)
    if step.finished():
        return
    if fold is not None:
        tables = fold_split(rows, fold, seed)
    elif split == "released":
        tables = released_split(rows)
    else:
        tables = splits.split(rows, SHARES, seed)
    splits.write_splits(step, tables)


def read_folder(source: Path) -> dict[tuple[str, str], str]:
    """The text of each file by domain and label."""
    root = source / "sorted_data_acl" if (source / "sorted_data_acl").is_dir() else source
    texts = {}
    for key, name in FILES.items():
        path = root / name
        if not path.is_file():
            raise InputError(f"--source {source}: {path} is missing; name the folder sorted_data_acl")
        texts[key] = decode_utf8(path.read_bytes(), str(path))
    return texts


def read_tar(source: Path) -> dict[tuple[str, str], str]:
    """The text of each file by domain and label, from the published archive; it is read in memory, not unpacked."""
    texts = {}
    try:
        with tarfile.open(source) as archive:
            for key, name in FILES.items():
                file = archive.extractfile(f"sorted_data_acl/{name}")
                if file is None:
                    raise KeyError(f"sorted_data_acl/{name} is no file")
                texts[key] = decode_utf8(file.read(), f"{source}, {file.name}")
    except (tarfile.TarError, KeyError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"--source {source}: not the published archive, or cut off ({error}); get it again") from None
    return texts


def reviews(text: str, domain: str, label: str) -> list[Row]:
    """The reviews of one file, with control characters as spaces and entities as the characters they stand for.

    Raises:
        InputError: there are none.
    """
    rows, blank = [], 0
    for number, match in enumerate(REVIEW.finditer(text), 1):
        review = html.unescape(html.unescape(match[1]))  # some were escaped twice
        review = " ".join(CONTROL.sub(" ", review).split())
        if not review:
            blank += 1
            continue
        rows.append({"guid": f"{domain}-{label}-{number}", "text_a": review, "text_b": "", "label": label,
                     "domain": domain})  # fmt: skip
    if not rows:
        raise InputError(f"{FILES[domain, label]}: no <review_text> with a text; get the file again")
    if blank:
        log.warning("%s: %d blank reviews are left out", FILES[domain, label], blank)
    return rows


def rows_hash(rows: list[Row]) -> str:
    """A hash of all rows; the step compares it instead of the source, which may be a folder or an archive."""
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def released_split(rows: list[Row]) -> dict[str, list[Row]]:
    """The split of EasyNLP (generate_senti_data.py).

    It shuffles the rows, takes the first of ten folds for test, and the first of ten folds of the rest for dev.
    """
    shuffled = [rows[i] for i in np.random.RandomState(RELEASED_SEED).permutation(len(rows))]
    rest, test = first_fold(shuffled)
    train, dev = first_fold(rest)
    return {"train": train, "dev": dev, "test": test}


def fold_split(rows: list[Row], fold: int, seed: int) -> dict[str, list[Row]]:
    """One of five parts as test rows, and the other rows as nine parts of training rows and one of dev rows."""
    parts = splits.split(rows, {str(number): 1 / FOLDS for number in range(1, FOLDS + 1)}, seed)
    test = parts.pop(str(fold))
    rest = [row for part in parts.values() for row in part]
    return {**splits.split(rest, {"train": 0.9, "dev": 0.1}, seed), "test": test}


def first_fold(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The rows outside and inside the first of ten folds that are stratified by label."""
    folds = StratifiedKFold(10, shuffle=True, random_state=RELEASED_SEED)
    outside, inside = next(folds.split(rows, [row["label"] for row in rows]))
    return [rows[i] for i in outside], [rows[i] for i in inside]


if __name__ == "__main__":
    run(main)
