"""The file formats of tables. Rows are read and written as they are; `metakd.data.tables` checks their columns."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from metakd.errors import InputError

Row = dict[str, Any]
DELIMITERS = {".tsv": "\t", ".csv": ","}
FORMATS = (*DELIMITERS, ".jsonl", ".parquet")
BLOCK = 1000  # Parquet rows read or written at a time

csv.field_size_limit(sys.maxsize)  # the csv module refuses texts above 128 KiB by default


class TableError(InputError):
    """A table that cannot be used; the message says where and why."""

    def __init__(self, path: Path, problem: str, row: int | None = None, field: str | None = None) -> None:
        place = "".join([f", row {row}" if row else "", f", field {field!r}" if field else ""])
        super().__init__(f"{path}{place}: {problem}")


def read(path: Path) -> Iterator[Row]:
    """Yield the rows of a file by column name. Invalid UTF-8 bytes become lone surrogates.

    Raises:
        TableError: no such file, an unknown suffix, broken quoting or JSON.
    """
    if not path.is_file():
        raise TableError(path, "no such file")
    if path.suffix == ".parquet":
        yield from _read_parquet(path)
    elif path.suffix == ".jsonl":
        yield from _read_jsonl(path)
    else:
        yield from _read_delimited(path, _delimiter(path, path.suffix))


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
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{place}, line {line}: is not UTF-8; get the file again") from None


def _delimiter(path: Path, suffix: str) -> str:
    if suffix not in DELIMITERS:
        raise TableError(path, f"unknown format {suffix!r}; a table ends in one of {', '.join(FORMATS)}")
    return DELIMITERS[suffix]


def _read_delimited(path: Path, delimiter: str) -> Iterator[Row]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(reader, [])
            repeated = {name for name in header if header.count(name) > 1}
            if repeated:
                raise TableError(path, f"columns occur twice: {sorted(repeated)}")
            for number, values in enumerate(reader, 1):
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


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        for number, line in enumerate(filter(str.strip, file), 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise TableError(path, f"is not JSON ({error})", number) from None
            if not isinstance(row, dict):
                raise TableError(path, "is not a JSON object", number)
            yield row


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise TableError(path, f"is not Parquet ({error})") from None
    with file:
        for batch in file.iter_batches(batch_size=BLOCK):
            yield from batch.to_pylist()


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
    with pyarrow.parquet.ParquetWriter(os.fspath(path), schema) as writer:
        while block:
            writer.write_table(pyarrow.Table.from_pylist(block, schema))
            count += len(block)
            block = list(islice(rows, BLOCK))
    return count
