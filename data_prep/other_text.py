"""Text from elsewhere, as rows without labels to show to a student: it learns what the teacher makes of it."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from metakd.cli import run
from metakd.data.formats import FORMATS, require_format
from metakd.data.line_files import read_lines
from metakd.data.pieces import pieces
from metakd.data.splits import normalised
from metakd.data.tables import UNLABELLED, Row, read_rows, write_rows
from metakd.errors import InputError
from metakd.ranges import Count, Seed
from metakd.steps import Step

log = logging.getLogger(__name__)


def main(
    texts: list[Path],
    out: Path,
    words: Count = 20,
    most: Count | None = None,
    domain: str = "other",
    seed: Seed = 1,
    remake: bool = False,
) -> None:
    """Write a table for methods that show `extra` rows, such as more_text.yaml, from tables and files of plain text.

    A text is cut evenly into its number of words divided by WORDS pieces, rounded; one of less than 1.5 times WORDS
    stays whole. Texts of a pair are cut each by itself. What occurs twice, up to case and white space, is written
    once. Name no dev or test table of your task: a student must not see their texts.

    Args:
        texts: tables, of which no label is read, and files of one text a line, plain or .gz; in brackets, such as
            '[train.tsv, news.txt.gz]'.
        out: the table; its suffix names the format.
        words: words of a piece, counted between white space; about as many as the task's texts have.
        most: as many pieces at most, drawn at random; all by default.
        domain: of all rows; not one of the task, so that they are `extra` rows.
        seed: of the draw.
        remake: make it anew if other code made it.
    """
    require_format(out)
    if not domain.strip():
        raise InputError("--domain is empty; name one that the task does not have")
    for path in texts:
        require_texts(path)
    settings = {"words": words, "most": most, "domain": domain, "seed": seed}
    step = Step(out, settings, {f"texts_{n}": path for n, path in enumerate(texts)}, file=True, remake=remake)
    if step.finished():
        return
    chosen = drawn(texts, words, most, seed)
    with step.workspace() as file:
        if file is not None:
            count = write_rows(file, rows(chosen, domain), out.suffix)
            log.info("%s: %d rows", out, count)


def require_texts(path: Path) -> None:
    """Refuse what is no file, and a table by another name, whose labels would be read as text."""
    if path.is_dir():
        raise InputError(f"--texts {path}: is a folder; name its files")
    if not path.is_file():
        raise InputError(f"--texts {path}: no such file; name tables, or files of one text a line, as '[FILE, FILE]'")
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix in (*FORMATS, ".json") and path.suffix not in FORMATS:
        raise InputError(f"--texts {path}: a table must be unpacked and end in {', '.join(FORMATS)}")


def drawn(texts: Iterable[Path], words: int, most: int | None, seed: int) -> list[str]:
    """The pieces of all files, each once, or `most` of them, each as probable, in their order.

    Raises:
        InputError: a file that is damaged or no table, or no text at all.
    """
    by_content: dict[str, str] = {}
    for piece in (piece for path in texts for text in read_texts(path) for piece in pieces(text, words)):
        by_content.setdefault(normalised(piece), piece)
    found = list(by_content.values())
    if not found:
        raise InputError("--texts: no text in these files")
    if most is None or most >= len(found):
        return found
    return [found[n] for n in sorted(random.Random(seed).sample(range(len(found)), most))]


def read_texts(path: Path) -> Iterator[str]:
    """Every text of a table, or every line of a file, that is not empty."""
    texts = table_texts(path) if path.suffix in FORMATS else read_lines(path)
    return (text for text in texts if text.strip())


def table_texts(path: Path) -> Iterator[str]:
    return (row[column] for row in read_rows(path, required=UNLABELLED) for column in ("text_a", "text_b"))


def rows(texts: Iterable[str], domain: str) -> Iterator[Row]:
    for number, text in enumerate(texts, 1):
        yield {"guid": f"{domain}-{number}", "text_a": text, "text_b": "", "label": "", "domain": domain}


if __name__ == "__main__":
    run(main)
