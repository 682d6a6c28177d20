"""Tables of labelled text: guid, text_a, text_b, label, domain[, weight] as TSV, CSV, JSONL or Parquet.

Rows are read one at a time and checked as they are read; `load` keeps them in a memory-mapped Arrow file.
An error names the file, the row (the first row below the header is row 1) and the field.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metakd.errors import InputError, nearest
from metakd.steps import file_hash

if TYPE_CHECKING:
    from datasets import Dataset

Row = dict[str, Any]
REQUIRED = ("guid", "text_a", "label", "domain")
COLUMNS = ("guid", "text_a", "text_b", "label", "domain")
DELIMITERS = {".tsv": "\t", ".csv": ","}
FORMATS = (*DELIMITERS, ".jsonl", ".parquet")

csv.field_size_limit(sys.maxsize)  # a text may be longer than the csv module's default of 128 KiB


class TableError(InputError):
    """A table that cannot be used; the message says where and why."""

    def __init__(self, path: Path, problem: str, row: int | None = None, field: str | None = None) -> None:
        place = "".join([f", row {row}" if row else "", f", field {field!r}" if field else ""])
        super().__init__(f"{path}{place}: {problem}")


def read_rows(
    path: str | Path, labels: Sequence[str] | None = None, domains: Sequence[str] | None = None
) -> Iterator[Row]:
    """Yield the checked rows of a table, in order; `weight` is there if the table has that column.

    Args:
        labels, domains: the names that may occur; None allows any.

    Raises:
        TableError: a missing column, broken quoting, wrong encoding, an empty text, guid, label or domain,
            a name not allowed, a guid that came before, or a weight that is no number from 0 up.
    """
    path = Path(path)
    seen: set[str] = set()
    weighted = False
    for number, raw in enumerate(_raw_rows(path), 1):
        row: Row = {name: _text(path, number, name, raw.get(name)) for name in COLUMNS}
        for name in REQUIRED:
            if not row[name].strip():
                raise TableError(path, "is empty; fill it or remove the row", number, name)
        for name, allowed in (("label", labels), ("domain", domains)):
            if allowed is not None and row[name] not in allowed:
                raise TableError(
                    path, f"{row[name]!r} is not among the task's {name}s {list(allowed)}"
                    f"{nearest(row[name], allowed)}", number, name,
                )  # fmt: skip
        if row["guid"] in seen:
            raise TableError(path, f"{row['guid']!r} occurs twice; guids must be unique", number, "guid")
        seen.add(row["guid"])
        if number == 1:
            weighted = raw.get("weight") is not None
        if weighted or raw.get("weight") is not None:
            row["weight"] = _weight(path, number, raw.get("weight"))
        yield row
    if not seen:
        raise TableError(path, "has no rows")


def write_rows(path: Path, rows: Iterable[Row], suffix: str | None = None) -> int:
    """Write a table and return its row count; `suffix` names the format where the path's own does not."""
    suffix = suffix or path.suffix
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        raise TableError(path, "has no rows to write")
    columns = [*COLUMNS, "weight"] if "weight" in first else list(COLUMNS)
    table = ({name: row[name] for name in columns} for row in _chain(first, rows))
    if suffix == ".jsonl":
        with path.open("w", encoding="utf-8", newline="\n") as file:
            return sum(bool(file.write(json.dumps(row, ensure_ascii=False) + "\n")) for row in table)
    if suffix == ".parquet":
        return _write_parquet(path, table, columns)
    with path.open("w", encoding="utf-8", newline="") as file:
        options: dict[str, Any] = {"delimiter": _delimiter(path, suffix), "lineterminator": "\n"}
        plain, quoted = csv.writer(file, **options), csv.writer(file, quoting=csv.QUOTE_ALL, **options)
        plain.writerow(columns)
        count = 0
        for count, row in enumerate(table, 1):
            values = list(row.values())
            texts = "".join(map(str, values))
            if "\0" in texts and sys.version_info < (3, 11):
                raise TableError(path, "has a NUL, which Python 3.10 cannot read back; use .jsonl", count)
            # Not every Python version quotes a bare carriage return by itself.
            (quoted if "\r" in texts else plain).writerow(values)
        return count


def load(path: str | Path, labels: Sequence[str] | None = None, domains: Sequence[str] | None = None) -> Dataset:
    """The table as a memory-mapped `datasets.Dataset`, made once per content and kept in its cache."""
    import datasets

    path = Path(path)
    if not path.is_file():
        raise TableError(path, "no such file")
    text = datasets.Value("string")
    features = dict.fromkeys(COLUMNS, text)
    if has_weights(path):
        features["weight"] = datasets.Value("float64")
    shown = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return datasets.Dataset.from_generator(
            _rows_of_content,
            features=datasets.Features(features),
            gen_kwargs={
                "path": str(path),
                "sha256": file_hash(path),
                "labels": labels and tuple(labels),
                "domains": domains and tuple(domains),
            },  # lists would be taken for shards
        )
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise
    finally:
        if shown:
            datasets.enable_progress_bars()


def has_weights(path: str | Path) -> bool:
    """Whether the table has a weight column."""
    return "weight" in next(read_rows(path))


def names(path: str | Path) -> tuple[list[str], list[str]]:
    """The labels and the domains that occur in a table, each sorted."""
    labels, domains = set(), set()
    for row in read_rows(path):
        labels.add(row["label"])
        domains.add(row["domain"])
    return sorted(labels), sorted(domains)


def _rows_of_content(
    path: str, sha256: str, labels: tuple[str, ...] | None, domains: tuple[str, ...] | None
) -> Iterator[Row]:
    """`read_rows`; the hash is an argument so that the cache knows when the file has changed."""
    yield from read_rows(path, labels, domains)


def _chain(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _delimiter(path: Path, suffix: str) -> str:
    if suffix not in DELIMITERS:
        raise TableError(path, f"unknown format {suffix!r}; a table ends in one of {', '.join(FORMATS)}")
    return DELIMITERS[suffix]


def _raw_rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise TableError(path, "no such file")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
    elif path.suffix == ".jsonl":
        yield from _json_rows(path)
    else:
        yield from _delimited_rows(path, _delimiter(path, path.suffix))


def _delimited_rows(path: Path, delimiter: str) -> Iterator[Row]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(reader, [])
            _check_columns(path, header)
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
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise TableError(path, f"is not JSON ({error})", number) from None
            if not isinstance(row, dict):
                raise TableError(path, "is not a JSON object", number)
            _check_columns(path, list(row), number)
            yield row


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise TableError(path, f"is not Parquet ({error})") from None
    with file:
        _check_columns(path, file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=1000):
            yield from batch.to_pylist()


def _write_parquet(path: Path, table: Iterable[Row], columns: list[str]) -> int:
    import pyarrow
    import pyarrow.parquet

    types = [(name, pyarrow.float64() if name == "weight" else pyarrow.string()) for name in columns]
    schema, count, block = pyarrow.schema(types), 0, []
    with pyarrow.parquet.ParquetWriter(os.fspath(path), schema) as writer:
        for row in table:
            block.append(row)
            if len(block) == 1000:
                writer.write_table(pyarrow.Table.from_pylist(block, schema))
                count, block = count + len(block), []
        writer.write_table(pyarrow.Table.from_pylist(block, schema))
    return count + len(block)


def _check_columns(path: Path, found: list[str], row: int | None = None) -> None:
    for name in REQUIRED:
        if name not in found:
            raise TableError(path, f"no such column; found {found}{nearest(name, found)}", row, name)
    doubled = {name for name in found if found.count(name) > 1}
    if doubled:
        raise TableError(path, f"columns occur twice: {sorted(doubled)}")


def _text(path: Path, row: int, field: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise TableError(path, f"is neither text nor a number: {value!r}", row, field)
    text = str(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # what was read as no character is kept as a lone surrogate
        raise TableError(path, "is not UTF-8; save the file as UTF-8", row, field) from None
    return text


def _weight(path: Path, row: int, value: Any) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise TableError(path, f"{value!r} is not a number from 0 up", row, "weight")
    return weight
