"""Sentiment of Amazon reviews in four domains (Blitzer, Dredze & Pereira, ACL 2007), as in the Meta-KD paper.

Source: `sorted_data_acl` of the Multi-Domain Sentiment Dataset v2.0. Its files look like XML, but are not:
no root, bare ampersands, control characters. So they are read as text, tag line by tag line.
"""

from __future__ import annotations

import hashlib
import html
import re
import tarfile
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.model_selection import StratifiedKFold

from metakd.cli import run
from metakd.data import splits
from metakd.data.tables import Row
from metakd.errors import InputError
from metakd.steps import Step

FOLDERS = {"books": "books", "dvd": "dvd", "electronics": "electronics", "kitchen": "kitchen_&_housewares"}
LABELS = ("positive", "negative")
REVIEW = re.compile(r"^<review_text>\n(.*?)^</review_text>", re.MULTILINE | re.DOTALL)
CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
RELEASED_SEED = 11111


def main(source: Path, out: Path, split: Literal["grouped", "released"] = "grouped", seed: int = 1) -> None:
    """Write train.tsv, dev.tsv and test.tsv of the Amazon reviews.

    Args:
        source: the folder `sorted_data_acl` (or one that holds it), or the tar.gz as published.
        out: folder for the tables.
        split: "grouped" deals 80/10/10 and keeps identical reviews together; "released" is the split of the
            released Meta-KD code, in which some identical reviews straddle splits.
        seed: of the grouped split.
    """
    if not source.exists():
        raise InputError(f"--source {source}: no such folder or file")
    files = read_tar(source) if source.is_file() else read_folder(source)
    rows = [row for (domain, label), text in files.items() for row in reviews(text, domain, label)]
    step = Step(out, {"split": split, "seed": seed, "rows": rows_hash(rows)}, {})
    if step.finished():
        return
    tables = released_split(rows) if split == "released" else splits.split(rows, SHARES, seed)
    splits.publish(step, tables)


def read_folder(source: Path) -> dict[tuple[str, str], str]:
    """The text of each domain's and label's file, in the order that the released split counts on."""
    root = source / "sorted_data_acl" if (source / "sorted_data_acl").is_dir() else source
    found = {}
    for domain, folder in FOLDERS.items():
        for label in LABELS:
            path = root / folder / f"{label}.review"
            if not path.is_file():
                raise InputError(f"--source {source}: {path} is missing")
            found[domain, label] = decoded(path.read_bytes(), str(path))
    return found


def read_tar(source: Path) -> dict[tuple[str, str], str]:
    """The same from the published archive; members are read in memory, so no path of it is ever written to."""
    found = {}
    try:
        with tarfile.open(source) as archive:
            for domain, folder in FOLDERS.items():
                for label in LABELS:
                    file = archive.extractfile(f"sorted_data_acl/{folder}/{label}.review")
                    assert file is not None
                    found[domain, label] = decoded(file.read(), f"{source}, {file.name}")
    except (tarfile.TarError, KeyError) as error:
        raise InputError(f"--source {source}: not the published archive ({error})") from None
    return found


def decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{where}, line {line}: is not UTF-8; get the file again") from None


def reviews(text: str, domain: str, label: str) -> list[Row]:
    """The reviews of one file; control characters become spaces, entities the characters they stand for."""
    rows = []
    for number, match in enumerate(REVIEW.finditer(text), 1):
        review = html.unescape(html.unescape(match[1]))  # some were escaped twice
        review = " ".join(CONTROL.sub(" ", review).split())
        rows.append({"guid": f"{domain}-{label}-{number}", "text_a": review, "text_b": "", "label": label,
                     "domain": domain})  # fmt: skip
    return rows


def rows_hash(rows: list[Row]) -> str:
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def released_split(rows: list[Row]) -> dict[str, list[Row]]:
    """Shuffle, first fold of ten for test, first fold of ten of the rest for dev (generate_senti_data.py)."""
    shuffled = [rows[i] for i in np.random.RandomState(RELEASED_SEED).permutation(len(rows))]

    def first_fold(of: list[Row]) -> tuple[list[Row], list[Row]]:
        folds = StratifiedKFold(10, shuffle=True, random_state=RELEASED_SEED)
        kept, taken = next(folds.split(of, [row["label"] for row in of]))
        return [of[i] for i in kept], [of[i] for i in taken]

    rest, test = first_fold(shuffled)
    train, dev = first_fold(rest)
    return {"train": train, "dev": dev, "test": test}


if __name__ == "__main__":
    run(main)
