"""The file formats of tables: rows as they stand in the file, without regard to their columns."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from metakd.errors import InputError

Row = dict[str, Any]
DELIMITERS = {".tsv": "\t", ".csv": ","}
FORMATS = (*DELIMITERS, ".jsonl", ".parquet")

csv.field_size_limit(sys.maxsize)  # a text may be longer than the csv module's default of 128 KiB


class TableError(InputError):
    """A table that cannot be used; the message says where and why."""

    def __init__(self, path: Path, problem: str, row: int | None = None, field: str | None = None) -> None:
        place = "".join([f", row {row}" if row else "", f", field {field!r}" if field else ""])
        super().__init__(f"{path}{place}: {problem}")


def read(path: Path) -> Iterator[Row]:
    """Yield the rows of a file by column name; what is no UTF-8 comes as lone surrogates.

    Raises:
        TableError: no such file, an unknown suffix, broken quoting or JSON.
    """
    if not path.is_file():
        raise TableError(path, "no such file")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
    elif path.suffix == ".jsonl":
        yield from _json_rows(path)
    else:
        yield from _delimited_rows(path, _delimiter(path, path.suffix))


def write(path: Path, rows: Iterable[Row], columns: list[str], suffix: str) -> int:
    """Write rows in the format of the suffix; returns their count."""
    if suffix == ".jsonl":
        with path.open("w", encoding="utf-8", newline="\n") as file:
            return sum(bool(file.write(json.dumps(row, ensure_ascii=False) + "\n")) for row in rows)
    if suffix == ".parquet":
        return _write_parquet(path, rows, columns)
    return _write_delimited(path, rows, columns, _delimiter(path, suffix))


def _delimiter(path: Path, suffix: str) -> str:
    if suffix not in DELIMITERS:
        raise TableError(path, f"unknown format {suffix!r}; a table ends in one of {', '.join(FORMATS)}")
    return DELIMITERS[suffix]


def _delimited_rows(path: Path, delimiter: str) -> Iterator[Row]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(reader, [])
            doubled = {name for name in header if header.count(name) > 1}
            if doubled:
                raise TableError(path, f"columns occur twice: {sorted(doubled)}")
            for number, values in enumerate(reader, 1):
                if len(values) != len(header):
                    raise TableError(
                        path, f"has {len(values)} fields, the header {len(header)}; a text with the delimiter, "
                        "a line break or a leading quotation mark must be quoted", number,
                    )  # fmt: skip
                yield dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise TableError(
            path, f"broken quoting ({error}); a field that begins with a quotation mark must be quoted whole, "
            'and a quotation mark inside it doubled ("")', number + 1,
        ) from None  # fmt: skip


def _json_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        for number, line in enumerate(filter(str.strip, file), 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise TableError(path, f"is not JSON ({error})", number) from None
            if not isinstance(row, dict):
                raise TableError(path, "is not a JSON object", number)
            yield row


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise TableError(path, f"is not Parquet ({error})") from None
    with file:
        for batch in file.iter_batches(batch_size=1000):
            yield from batch.to_pylist()


def _write_delimited(path: Path, rows: Iterable[Row], columns: list[str], delimiter: str) -> int:
    with path.open("w", encoding="utf-8", newline="") as file:
        options: dict[str, Any] = {"delimiter": delimiter, "lineterminator": "\n"}
        plain, quoted = csv.writer(file, **options), csv.writer(file, quoting=csv.QUOTE_ALL, **options)
        plain.writerow(columns)
        count = 0
        for count, row in enumerate(rows, 1):
            values = list(row.values())
            texts = "".join(map(str, values))
            if "\0" in texts and sys.version_info < (3, 11):
                raise TableError(path, "has a NUL, which Python 3.10 cannot read back; use .jsonl", count)
            # Not every Python version quotes a bare carriage return by itself.
            (quoted if "\r" in texts else plain).writerow(values)
        return count


def _write_parquet(path: Path, table: Iterable[Row], columns: list[str]) -> int:
    import pyarrow
    import pyarrow.parquet

    table = iter(table)
    first = next(table)
    kinds = {name: pyarrow.float64() if isinstance(first[name], float) else pyarrow.string() for name in columns}
    if "weight" in kinds:  # may be empty in the first row
        kinds["weight"] = pyarrow.float64()
    schema, count, block = pyarrow.schema(list(kinds.items())), 0, [first]
    with pyarrow.parquet.ParquetWriter(os.fspath(path), schema) as writer:
        for row in table:
            block.append(row)
            if len(block) == 1000:
                writer.write_table(pyarrow.Table.from_pylist(block, schema))
                count, block = count + len(block), []
        writer.write_table(pyarrow.Table.from_pylist(block, schema))
    return count + len(block)
