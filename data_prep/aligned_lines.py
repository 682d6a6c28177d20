"""A table from parallel text files, as sequence-to-sequence code uses them: row i comes from line i of each file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from metakd.cli import run
from metakd.data.formats import FORMATS
from metakd.data.tables import Row, write_rows
from metakd.errors import InputError
from metakd.steps import Step

log = logging.getLogger(__name__)


def main(
    text_a: Path, domain: str, out: Path, text_b: Path | None = None, label: Path | None = None, name: str | None = None
) -> None:
    """Write one table from files with one text, label or domain per line; white space around a line is dropped.

    Args:
        text_a: file of the texts.
        domain: file of the domains if there is one of this name, else the domain of all rows.
        out: the table; its suffix names the format.
        text_b: file of the second texts of pairs.
        label: file of the labels; without it the rows have none.
        name: guids are NAME-1, NAME-2 and so on by line; by default the name of the table without its suffix.
    """
    if out.suffix not in FORMATS:
        raise InputError(f"--out {out}: unknown format {out.suffix!r}; a table ends in one of {', '.join(FORMATS)}")
    given = {"text_a": text_a, "text_b": text_b, "label": label}
    files = {field: path for field, path in given.items() if path is not None}
    fixed = {"text_b": "", "label": "", "domain": domain.strip()}
    if Path(domain).is_file():
        files["domain"] = Path(domain)
    elif not fixed["domain"] or "/" in domain:
        raise InputError(f"--domain {domain!r}: no such file; name one, or a domain without '/' for all rows")
    for field, path in files.items():
        if not path.is_file():
            raise InputError(f"--{field} {path}: no such file")
        fixed.pop(field, None)
    prefix = out.stem if name is None else name
    step = Step(out, {"name": prefix, **fixed}, dict(files), file=True)
    if step.finished():
        return
    check_lengths(files)
    with step.workspace() as file:
        if file is not None:
            count = write_rows(file, rows(files, fixed, prefix), out.suffix)
            log.info("%s: %d rows", out, count)


def lines(path: Path, field: str) -> Iterator[str]:
    """The lines of a file, one at a time; a byte order mark and line ends of either kind are dropped.

    A row may lack its second text or its label; its line is empty then.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError:
                raise InputError(f"{path}, line {number}: is not UTF-8; save the file as UTF-8") from None
            if not text and field not in ("text_b", "label"):
                raise InputError(f"{path}, line {number}: is empty; fill it, or remove this line from every file")
            yield text


def check_lengths(files: dict[str, Path]) -> None:
    """Read every file to its end before anything is written."""
    counts = {path: sum(1 for _ in lines(path, field)) for field, path in files.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{path} has {count}" for path, count in counts.items())
        raise InputError(f"the numbers of lines differ: {found}; line i of each file must belong to row i")
    if 0 in counts.values():
        raise InputError(f"{next(iter(counts))}: has no lines; give it at least one")


def rows(files: dict[str, Path], fixed: dict[str, str], prefix: str) -> Iterator[Row]:
    """Row i from line i of each file; `fixed` has what is the same in all rows."""
    for number, values in enumerate(zip(*(lines(path, field) for field, path in files.items()), strict=True), 1):
        yield {"guid": f"{prefix}-{number}", **fixed, **dict(zip(files, values, strict=True))}


if __name__ == "__main__":
    run(main)
