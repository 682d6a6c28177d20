"""A table from parallel text files, as sequence-to-sequence code uses them: row i comes from line i of each file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from metakd.cli import run
from metakd.data.formats import require_format
from metakd.data.line_files import read_lines, require_aligned
from metakd.data.tables import Row, write_rows
from metakd.errors import InputError
from metakd.steps import Step

log = logging.getLogger(__name__)


def main(
    text_a: Path,
    domain: str,
    out: Path,
    text_b: Path | None = None,
    label: Path | None = None,
    name: str | None = None,
    remake: bool = False,
) -> None:
    """Write one table from files, plain or .gz, of one text, label or domain a line; white space around it is dropped.

    Args:
        text_a: file of the texts.
        domain: file of the domains if a file has this name, else the domain of all rows.
        out: the table; its suffix names the format.
        text_b: file of the second texts of pairs.
        label: file of the labels; without it the rows have none.
        name: guids are NAME-1, NAME-2 and so on, by line; by default the name of the table without its suffix.
        remake: make it anew if other code made it.
    """
    require_format(out)
    files = {"text_a": text_a}
    constants = {}
    for field, path in {"text_b": text_b, "label": label}.items():
        if path is None:
            constants[field] = ""
        else:
            files[field] = path
    if Path(domain).is_file():
        files["domain"] = Path(domain)
    elif not domain.strip() or "/" in domain:
        raise InputError(f"--domain {domain!r}: no such file; name one, or a domain without '/' for all rows")
    else:
        constants["domain"] = domain.strip()
    for field, path in files.items():
        if not path.is_file():
            raise InputError(f"--{field} {path}: no such file; name an existing one")
    prefix = out.stem if name is None else name
    step = Step(out, {"name": prefix, **constants}, dict(files), file=True, remake=remake)
    if step.finished():
        return
    check_lengths(files)
    with step.workspace() as file:
        if file is not None:
            count = write_rows(file, rows(files, constants, prefix), out.suffix)
            log.info("%s: %d rows", out, count)


def lines(path: Path, field: str) -> Iterator[str]:
    """Yield the lines of a file.

    A line may be empty in the files of text_b and label only: that row has no second text, or no label.
    """
    for number, text in enumerate(read_lines(path), 1):
        if not text and field not in ("text_b", "label"):
            raise InputError(f"{path}, line {number}: is empty; fill it, or remove this line from every file")
        yield text


def check_lengths(files: dict[str, Path]) -> None:
    """Read every file to its end before anything is written; raise InputError if their lines do not match."""
    counts = {path: sum(1 for _ in lines(path, field)) for field, path in files.items()}
    require_aligned(counts)
    if 0 in counts.values():
        raise InputError(f"{next(iter(counts))}: has no lines; give it at least one")


def rows(files: dict[str, Path], constants: dict[str, str], prefix: str) -> Iterator[Row]:
    """Yield row i from line i of each file; `constants` holds the fields that are the same in all rows."""
    for number, values in enumerate(zip(*(lines(path, field) for field, path in files.items()), strict=True), 1):
        yield {"guid": f"{prefix}-{number}", **constants, **dict(zip(files, values, strict=True))}


if __name__ == "__main__":
    run(main)
