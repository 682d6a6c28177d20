"""Text files of one text a line, plain or compressed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from metakd.data.formats import GZIP, refuse_utf16
from metakd.errors import InputError


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a file, plain or .gz, without white space around them and without a byte order mark.

    Only a line feed ends a line: others, such as U+2028, stand inside sentences.

    Raises:
        InputError: it is not UTF-8, or damaged.
    """
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
    try:
        with gzip.open(path) if compressed else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    refuse_utf16(line[:4], str(path))
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except UnicodeDecodeError:
        raise InputError(f"{path}, line {number}: is not UTF-8; save the file as UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}); fetch it again") from None


def require_aligned(counts: dict[Path, int]) -> None:
    """Refuse files whose numbers of lines differ."""
    if len(set(counts.values())) > 1:
        lengths = ", ".join(f"{path} has {count}" for path, count in counts.items())
        raise InputError(f"the numbers of lines differ: {lengths}; line i of each file must belong to row i")
