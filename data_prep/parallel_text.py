"""Tables and a joint tokenizer from aligned text files, one sentence a line, plain or .gz."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from metakd.cli import run
from metakd.data.line_files import read_lines, require_aligned
from metakd.data.tables import Row, read_rows, write_rows
from metakd.errors import InputError
from metakd.ranges import Count
from metakd.steps import Step
from metakd.translation.settings import PAIRS
from metakd.translation.tokenizer import joint_tokenizer

log = logging.getLogger(__name__)
SPLITS = ("train", "dev", "test")


def main(
    source: list[Path],
    target: list[Path],
    out: Path,
    domain: str = "parallel",
    vocabulary: Count = 8000,
    max_words: Count = 100,
    remake: bool = False,
) -> None:
    """Write train.tsv, dev.tsv and test.tsv, and a byte-pair tokenizer of both languages in OUT/tokenizer.

    Line i of a source file belongs to line i of its target file. Pairs with an empty or too long side are left out of
    train.tsv, with their number in the log; in dev and test they are refused, since scores depend on them.

    Args:
        source: '[TRAIN, DEV, TEST]': files of the source language.
        target: the same of the target language.
        out: folder for the tables and the tokenizer.
        domain: what the column `domain` says, e.g. the name of the corpus.
        vocabulary: tokens of the tokenizer, trained on both sides of the training pairs.
        max_words: most words of either side of a training pair.
        remake: make the output anew if other code made it.
    """
    for name, files in {"source": source, "target": target}.items():
        if len(files) != len(SPLITS):
            raise InputError(f"--{name} names {len(files)} files; it takes three: '[TRAIN, DEV, TEST]'")
        for path in files:
            if not path.is_file():
                raise InputError(f"--{name} {path}: no such file")
    inputs = {f"{side} {split}": path for side, files in {"source": source, "target": target}.items()
              for split, path in zip(SPLITS, files, strict=True)}  # fmt: skip
    settings = {"domain": domain, "vocabulary": vocabulary, "max_words": max_words}
    step = Step(out, settings, dict(inputs), remake=remake)
    if step.finished():
        return
    with step.workspace() as folder:
        if folder is None:
            return
        for split, one, other in zip(SPLITS, source, target, strict=True):
            most = max_words if split == "train" else None
            count = write_rows(folder / f"{split}.tsv", pair_rows(one, other, domain, split, most))
            log.info("%s: %d pairs", split, count)
        tokenizer = joint_tokenizer(texts_of(folder / "train.tsv"), vocabulary)
        tokenizer.save_pretrained(folder / "tokenizer")
        log.info("tokenizer: %d tokens", len(tokenizer))
        warn_of_shared_sources(folder)


def texts_of(table: Path) -> Iterator[str]:
    """Both sides of each pair."""
    for row in read_rows(table, required=PAIRS):
        yield from (row["text_a"], row["label"])


def warn_of_shared_sources(folder: Path) -> None:
    """Tell how many sources of dev and test are training rows too: their scores say less."""
    held_out = {split: [row["text_a"] for row in read_rows(folder / f"{split}.tsv")] for split in SPLITS[1:]}
    wanted = {source for sources in held_out.values() for source in sources}
    seen = {row["text_a"] for row in read_rows(folder / "train.tsv") if row["text_a"] in wanted}
    for split, sources in held_out.items():
        if shared := sum(source in seen for source in sources):
            log.warning("%s: %d of %d sources also stand in train", split, shared, len(sources))


def pair_rows(source: Path, target: Path, domain: str, prefix: str, max_words: int | None) -> Iterator[Row]:
    """Yield the pairs of two files as rows.

    Args:
        prefix: guids are PREFIX-1, PREFIX-2 and so on, by line.
        max_words: of either side; None refuses what it would leave out.

    Raises:
        InputError: the files have different numbers of lines, or a pair may not be left out.
    """
    counts = {path: sum(1 for _ in read_lines(path)) for path in (source, target)}
    require_aligned(counts)
    left_out: Counter[str] = Counter()
    for number, (text, translation) in enumerate(zip(read_lines(source), read_lines(target), strict=True), 1):
        if not text or not translation:
            if max_words is None:
                raise InputError(f"{target if text else source}, line {number} is empty; remove it from both files")
            left_out["empty"] += 1
        elif max_words is not None and max(len(text.split()), len(translation.split())) > max_words:
            left_out[f"longer than {max_words} words"] += 1
        else:
            yield {"guid": f"{prefix}-{number}", "text_a": text, "text_b": "", "label": translation, "domain": domain}
    for reason, number in left_out.items():
        log.warning("%s, %s: %d of %d pairs are left out: %s", source, target, number, counts[source], reason)


if __name__ == "__main__":
    run(main)
