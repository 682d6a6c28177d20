"""Tables of labelled text: guid, text_a, text_b, label, domain[, weight] as TSV, CSV, JSONL or Parquet.

Rows are read one at a time and checked as they are read; `load` keeps them in a memory-mapped Arrow file.
An error names the file, the row (the first row below the header is row 1) and the field.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metakd.data import formats
from metakd.data.formats import Row, TableError
from metakd.errors import InputError, nearest
from metakd.manifests import file_hash

if TYPE_CHECKING:
    from datasets import Dataset

REQUIRED = ("guid", "text_a", "label", "domain")
COLUMNS = ("guid", "text_a", "text_b", "label", "domain")


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
    for number, raw in enumerate(formats.read(path), 1):
        _check_columns(path, number, list(raw))
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
        if weighted:
            row["weight"] = _weight(path, number, raw.get("weight"))
        elif raw.get("weight") is not None:
            raise TableError(path, "is there, but row 1 has none; give all rows a weight, or none", number, "weight")
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
    table = ({name: row[name] for name in columns} for row in itertools.chain([first], rows))
    return formats.write(path, table, columns, suffix)


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


def _check_columns(path: Path, row: int, found: list[str]) -> None:
    for name in REQUIRED:
        if name not in found:
            raise TableError(path, f"is missing; found {found}{nearest(name, found)}", row, name)


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
