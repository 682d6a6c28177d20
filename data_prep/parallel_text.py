"""Tables and a joint tokenizer from aligned text files, one sentence a line, plain or .gz."""

from __future__ import annotations

import gzip
import logging
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from metakd.cli import run
from metakd.data.formats import GZIP, decode_utf8, refuse_utf16
from metakd.data.tables import Row, write_rows
from metakd.errors import InputError
from metakd.ranges import Count
from metakd.steps import Step
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
        texts = (text for row in pair_rows(source[0], target[0], domain, "train", max_words, quiet=True)
                 for text in (row["text_a"], row["label"]))  # fmt: skip
        joint_tokenizer(texts, vocabulary).save_pretrained(folder / "tokenizer")


def lines(path: Path) -> list[str]:
    """The lines of a text file; only a line feed ends one (U+2028 stands inside sentences), with or without a CR."""
    content = path.read_bytes()
    if content.startswith(GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} is damaged ({error}); fetch it again") from None
    refuse_utf16(content[:4], str(path))
    text = decode_utf8(content, str(path)).removeprefix("\ufeff")
    return [line.strip() for line in text.removesuffix("\n").split("\n")] if text else []


def pair_rows(
    source: Path, target: Path, domain: str, prefix: str, max_words: int | None, quiet: bool = False
) -> Iterator[Row]:
    """Yield the pairs of two files as rows.

    Args:
        prefix: guids are PREFIX-1, PREFIX-2 and so on, by line.
        max_words: of either side; None refuses what it would leave out.
        quiet: do not say how many pairs are left out.

    Raises:
        InputError: the files have different numbers of lines, or a pair may not be left out.
    """
    one, other = lines(source), lines(target)
    if len(one) != len(other):
        raise InputError(
            f"{source} has {len(one)} lines, {target} {len(other)}; line i of one belongs to line i of the other"
        )
    left_out: Counter[str] = Counter()
    for number, (text, translation) in enumerate(zip(one, other, strict=True), 1):
        if not text or not translation:
            if max_words is None:
                raise InputError(f"{target if text else source}, line {number} is empty; remove it from both files")
            left_out["empty"] += 1
        elif max_words is not None and max(len(text.split()), len(translation.split())) > max_words:
            left_out[f"longer than {max_words} words"] += 1
        else:
            yield {"guid": f"{prefix}-{number}", "text_a": text, "text_b": "", "label": translation, "domain": domain}
    for reason, count in left_out.items() if not quiet else ():
        log.warning("%s, %s: %d of %d pairs are left out: %s", source, target, count, len(one), reason)


if __name__ == "__main__":
    run(main)
