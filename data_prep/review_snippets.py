"""Sentiment in four domains: the human-rated corpora of Hutto & Gilbert (ICWSM 2014), from a PyPI package.

Tweets, product-review sentences (amazon), movie-review snippets and newspaper editorials (nyt), each with a
mean rating from -4 to 4 by human judges. They ship in the source distribution of vaderSentiment (MIT).
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from metakd.cli import run
from metakd.data.packages import download
from metakd.data.splits import limit_rows, split, write_splits
from metakd.data.tables import Row
from metakd.errors import InputError, nearest
from metakd.steps import Step

PACKAGE = "vaderSentiment==3.3.2"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
CORPORA = {
    "tweets": "tweets",
    "amazon": "amazonReviewSnippets",
    "movies": "movieReviewSnippets",
    "nyt": "nytEditorialSnippets",
}
WITH_DOCUMENTS = ("amazon", "nyt")  # corpora whose ids are DOCUMENT_SENTENCE
# The smallest corpus (2,788 clear ratings) holds 1,000 test rows; what training leaves out is unlabelled.
SHARES = {"train": 0.55, "dev": 0.08, "test": 0.37}


def main(
    out: Path = Path("runs/review_snippets/tables"),
    downloads: Path = Path("runs/downloads"),
    threshold: float = 0.5,
    most_train: int = 900,
    most_dev: int = 200,
    most_test: int = 1000,
    corpora: list[str] | None = None,
    parts: int = 1,
    seed: int = 1,
    remake: bool = False,
) -> None:
    """Write train.tsv, dev.tsv, test.tsv and unlabelled.tsv of the review snippets.

    The unlabelled rows are those of the training share that `most_train` leaves out, without their labels.

    Args:
        out: folder for the tables.
        downloads: folder for the source distribution (2.4 MB).
        threshold: a rating above it is positive, one below minus it negative; other rows are dropped.
        most_train: most training rows per domain.
        most_dev: most dev rows per domain.
        most_test: most test rows per domain.
        corpora: the corpora, each a domain; by default all four: tweets, amazon, movies, nyt.
        parts: cut each corpus into so many domains of equal size, from short to long texts, e.g. movies-1 to movies-4.
        seed: seed of the split.
        remake: make it anew if other code made it.
    """
    chosen = [*CORPORA] if corpora is None else corpora
    for name in chosen:
        if name not in CORPORA:
            raise InputError(f"--corpora: no {name!r}; the corpora are {[*CORPORA]}{nearest(name, CORPORA)}")
    if parts < 1:
        raise InputError(f"--parts is {parts}; it must be at least 1")
    limits = {"train": most_train, "dev": most_dev, "test": most_test}
    settings = {"sha256": SDIST_SHA256, "threshold": threshold, "limits": limits, "seed": seed, "shares": SHARES}
    if (chosen, parts) != ([*CORPORA], 1):
        settings |= {"corpora": chosen, "parts": parts}
    step = Step(out, settings, {}, remake=remake)
    if step.finished():
        return
    sdist = download(PACKAGE, SDIST_SHA256, downloads, "sdist")
    rows, documents = read(sdist, threshold, chosen)
    rows = by_length(rows, parts) if parts > 1 else rows
    splits = split(rows, SHARES, seed, documents)
    limited = {name: limit_rows(splits[name], most, seed) for name, most in limits.items()}
    shown = {row["guid"] for row in limited["train"]}
    rest = [{**row, "label": ""} for row in splits["train"] if row["guid"] not in shown]
    write_splits(step, {**limited, "unlabelled": rest} if rest else limited)


def by_length(rows: list[Row], parts: int) -> list[Row]:
    """The rows with domains such as movies-2: the second of so many parts of movies, by the length of the texts."""
    numbers: dict[str, int] = {}
    for corpus in sorted({row["domain"] for row in rows}):
        of_corpus = sorted((row for row in rows if row["domain"] == corpus), key=lambda row: len(row["text_a"]))
        for i, row in enumerate(of_corpus):
            numbers[row["guid"]] = 1 + i * parts // len(of_corpus)
    return [{**row, "domain": f"{row['domain']}-{numbers[row['guid']]}"} for row in rows]


def read(sdist: Path, threshold: float, corpora: list[str]) -> tuple[list[Row], list[str]]:
    """The rows with a clear rating, and the document of each; the archives are read in memory, not unpacked."""
    rows, documents = [], []
    with tarfile.open(sdist) as outer:
        inner = outer.extractfile(ARCHIVE)
        assert inner is not None, ARCHIVE  # the hash was checked
        content = io.BytesIO(inner.read())
    with tarfile.open(fileobj=content) as archive:
        for domain in corpora:
            name = CORPORA[domain]
            file = archive.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
            assert file is not None, name
            for line in file.read().decode("utf-8").split("\n"):
                if not line.strip():
                    continue
                number, rating, text = line.rstrip("\r").split("\t", 2)
                if abs(float(rating)) <= threshold or not text.strip():
                    continue
                label = "positive" if float(rating) > 0 else "negative"
                document = number.split("_")[0] if domain in WITH_DOCUMENTS else number
                rows.append({"guid": f"{domain}-{number}", "text_a": text.strip(), "text_b": "",
                             "label": label, "domain": domain})  # fmt: skip
                documents.append(f"{domain}-{document}")
    return rows, documents


if __name__ == "__main__":
    run(main)
