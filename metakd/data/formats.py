"""The file formats of tables. Rows are read and written as they are; `metakd.data.tables` checks their columns."""

from __future__ import annotations

import codecs
import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from metakd.errors import InputError

Row = dict[str, Any]
ONE_FILE = (
    "a table is one file; join the Parquet files of a folder by "
    "pyarrow.parquet.write_table(pyarrow.dataset.dataset(FOLDER).to_table(), FILE)"
)
GZIP = b"\x1f\x8b"
DELIMITERS = {".tsv": "\t", ".csv": ","}
FORMATS = (*DELIMITERS, ".jsonl", ".parquet")
BLOCK = 1000  # Parquet rows read or written at a time

csv.field_size_limit(sys.maxsize)  # the csv module refuses texts above 128 KiB by default


class TableError(InputError):
    """A table that cannot be used; the message says where and why."""

    def __init__(self, path: Path, problem: str, row: int | None = None, field: str | None = None) -> None:
        place = "".join([f", row {row}" if row else "", f", field {field!r}" if field else ""])
        super().__init__(f"{path}{place}: {problem}")


def read(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[Row]:
    """Yield the rows of a file by column name. Invalid UTF-8 bytes become lone surrogates.

    Args:
        wanted: whether a column is needed; of a Parquet file no other values are read, and they come as None.

    Raises:
        TableError: no such file, an unknown suffix, broken quoting or JSON, a damaged file, or a column that occurs
            twice.
    """
    require_file(path)
    if path.suffix == ".parquet":
        yield from _read_parquet(path, wanted)
    elif path.suffix == ".jsonl":
        with open_text(path) as file:
            yield from _read_jsonl(path, file)
    else:
        yield from _read_delimited(path, _delimiter(path, path.suffix))


def require_file(path: Path) -> None:
    """Raise TableError if a table is no file."""
    if path.is_dir():
        raise TableError(path, f"is a folder; {ONE_FILE}")
    if not path.is_file():
        raise TableError(path, "no such file")


def open_text(path: Path, newline: str = "\n") -> TextIO:
    """A text file, opened as UTF-8; invalid bytes become lone surrogates.

    Raises:
        InputError: the file is UTF-16 or UTF-32.
    """
    with path.open("rb") as file:
        refuse_utf16(file.read(4), str(path))
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def refuse_utf16(start: bytes, place: str) -> None:
    """Raise InputError if the first four bytes of a file are those of UTF-16, UTF-32 or gzip."""
    if start.startswith(GZIP):
        raise InputError(f"{place}: is compressed by gzip; unpack it")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in start:
        raise InputError(f"{place}: is UTF-16 or UTF-32; save the file as UTF-8")


def parse_json_object(path: Path, line: str, row: int) -> Row:
    """The JSON object in a line.

    Raises:
        TableError: the line is not JSON, no object, has a key twice or a number that is too long.
    """
    try:
        value = json.loads(line, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise TableError(path, f"is not JSON ({error})", row) from None
    if not isinstance(value, dict):
        raise TableError(path, "is not a JSON object", row)
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> Row:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"keys occur twice: {sorted({name for name in names if names.count(name) > 1})}")
    return values


def _refuse_repeated(path: Path, columns: list[str]) -> None:
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise TableError(path, f"columns occur twice: {repeated}")


def write(path: Path, rows: Iterable[Row], columns: list[str], suffix: str) -> int:
    """Write rows in the format of the suffix and return their count."""
    if suffix == ".jsonl":
        return _write_jsonl(path, rows)
    if suffix == ".parquet":
        return _write_parquet(path, rows, columns)
    return _write_delimited(path, rows, columns, _delimiter(path, suffix))


def decode_utf8(content: bytes, place: str) -> str:
    """The text of a published file, without its byte order mark.

    Raises:
        InputError: invalid UTF-8; the message names the place and the line.
    """
    refuse_utf16(content[:4], place)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{place}, line {line}: is not UTF-8; get the file again") from None


def require_format(out: Path, formats_are: str = "a table ends in one of") -> None:
    """Refuse an --out whose suffix names no format, before anything is read."""
    if out.suffix not in FORMATS:
        raise InputError(f"--out {out}: unknown format {out.suffix!r}; {formats_are} {', '.join(FORMATS)}")


def _delimiter(path: Path, suffix: str) -> str:
    if suffix not in DELIMITERS:
        raise TableError(path, f"unknown format {suffix!r}; a table ends in one of {', '.join(FORMATS)}")
    return DELIMITERS[suffix]


def _read_delimited(path: Path, delimiter: str) -> Iterator[Row]:
    number = 0
    try:
        with open_text(path, newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(reader, [])
            _refuse_repeated(path, header)
            for number, values in enumerate(filter(None, reader), 1):  # without blank lines
                if len(values) != len(header):
                    raise TableError(
                        path, f"has {len(values)} fields, the header {len(header)}; a text with the delimiter, "
                        "a line break or a leading quotation mark must be quoted", number,
                    )  # fmt: skip
                yield dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise TableError(
            path, f"broken quoting ({error}); quote the whole of a field that begins with a quotation mark, "
            'and double ("") each quotation mark inside it', number + 1,
        ) from None  # fmt: skip


def _read_jsonl(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(filter(str.strip, lines), 1):
        yield parse_json_object(path, line, number)


def _read_parquet(path: Path, wanted: Callable[[str], bool]) -> Iterator[Row]:
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            columns = file.schema_arrow.names
            _refuse_repeated(path, columns)
            needed = [name for name in columns if wanted(name)]
            others = dict.fromkeys(name for name in columns if name not in needed)
            if not needed:  # nothing to read; the reader of the rows names what is missing
                yield others
                return
            for batch in file.iter_batches(batch_size=BLOCK, columns=needed):
                for row in batch.select(needed).to_pylist():
                    number += 1
                    yield {**row, **others}
            if number != file.metadata.num_rows:
                raise TableError(path, f"is damaged: it has {number} rows, its footer says {file.metadata.num_rows}")
    except (InputError, PermissionError):
        raise
    except Exception as error:  # what pyarrow raises for a damaged file is of any type
        row = number + 1 if number else None
        raise TableError(path, f"is not Parquet, or damaged ({error}); write the file again", row) from None


def _write_delimited(path: Path, rows: Iterable[Row], columns: list[str], delimiter: str) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        options: dict[str, Any] = {"delimiter": delimiter, "lineterminator": "\n"}
        writer, quoting_writer = csv.writer(file, **options), csv.writer(file, quoting=csv.QUOTE_ALL, **options)
        writer.writerow(columns)
        for count, row in enumerate(rows, 1):
            values = list(row.values())
            texts = "".join(map(str, values))
            if "\0" in texts and sys.version_info < (3, 11):
                raise TableError(path, "has a NUL, which Python 3.10 cannot read back; use .jsonl", count)
            # Not every Python version quotes a bare carriage return by itself.
            (quoting_writer if "\r" in texts else writer).writerow(values)
    return count


def _write_jsonl(path: Path, rows: Iterable[Row]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_parquet(path: Path, rows: Iterable[Row], columns: list[str]) -> int:
    import pyarrow
    import pyarrow.parquet

    rows = iter(rows)
    block, count = list(islice(rows, BLOCK)), 0
    types = {name: pyarrow.float64() if isinstance(block[0][name], float) else pyarrow.string() for name in columns}
    if "weight" in types:  # may be empty in the first row
        types["weight"] = pyarrow.float64()
    schema = pyarrow.schema(list(types.items()))
    with pyarrow.parquet.ParquetWriter(os.fspath(path), schema, write_page_checksum=True) as writer:
        while block:
            writer.write_table(pyarrow.Table.from_pylist(block, schema))
            count += len(block)
            block = list(islice(rows, BLOCK))
    return count
