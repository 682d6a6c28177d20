"""Tables of text: guid, text_a, text_b, label, domain[, weight] as TSV, CSV, JSONL or Parquet.

Rows are read and checked one at a time; `load_table` keeps them in a memory-mapped Arrow file.
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
from metakd.data.labels import Labels, ProblemType, sorted_label_names
from metakd.errors import InputError, nearest
from metakd.manifests import file_hash

if TYPE_CHECKING:  # slow to import, and most functions here do not need it
    from datasets import Dataset

# Columns that every row must fill. Training tables may have rows without a label, which only a student sees.
LABELLED = ("guid", "text_a", "label", "domain")
TRAINING = ("guid", "text_a", "domain")
UNLABELLED = ("guid", "text_a")
COLUMNS = ("guid", "text_a", "text_b", "label", "domain")


def read_rows(
    path: str | Path,
    labels: Labels | None = None,
    domains: Sequence[str] | None = None,
    required: Sequence[str] = LABELLED,
) -> Iterator[Row]:
    """Yield the checked rows of a table, in order, with the columns of `COLUMNS` and, if the table has it, `weight`.

    Args:
        labels, domains: the names that are allowed; None allows any.
        required: columns that every row must fill; others may be empty or missing, and are read as "".

    Raises:
        TableError: a missing column, broken quoting, invalid UTF-8, an empty field that is required,
            a name that is not allowed, a guid that occurs twice, or a weight that is not a number from 0 up.
    """
    path = Path(path)
    guids: set[str] = set()
    weighted = False
    for number, raw in enumerate(formats.read(path), 1):
        _check_columns(path, number, list(raw), required)
        row: Row = {name: _text(path, number, name, raw.get(name)) for name in COLUMNS}
        for name in required:
            if not row[name].strip():
                raise TableError(path, "is empty; fill it or remove the row", number, name)
        _check_names(path, number, row, labels, domains)
        if row["guid"] in guids:
            raise TableError(path, f"{row['guid']!r} occurs twice; guids must be unique", number, "guid")
        guids.add(row["guid"])
        if number == 1:
            weighted = "weight" in raw
        if weighted:
            row["weight"] = _weight(path, number, raw.get("weight", math.nan))
        elif "weight" in raw:
            raise TableError(path, "is there, but row 1 has none; give all rows a weight, or none", number, "weight")
        yield row
    if not guids:
        raise TableError(path, "has no rows")


def write_rows(path: Path, rows: Iterable[Row], suffix: str | None = None) -> int:
    """Write a table and return its row count.

    Args:
        suffix: names the format; None takes the suffix of the path.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        raise TableError(path, "has no rows to write")
    columns = [*COLUMNS, "weight"] if "weight" in first else list(COLUMNS)
    table = ({name: row[name] for name in columns} for row in itertools.chain([first], rows))
    return formats.write(path, table, columns, suffix or path.suffix)


def load_table(
    path: str | Path,
    labels: Labels | None = None,
    domains: Sequence[str] | None = None,
    required: Sequence[str] = LABELLED,
) -> Dataset:
    """The table as a memory-mapped `datasets.Dataset`, made once per content and kept in the datasets cache.

    The arguments and errors are those of `read_rows`.
    """
    import datasets

    path = Path(path)
    if not path.is_file():
        raise TableError(path, "no such file")
    features = dict.fromkeys(COLUMNS, datasets.Value("string"))
    if "weight" in next(read_rows(path, required=required)):
        features["weight"] = datasets.Value("float64")
    progress_bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return datasets.Dataset.from_generator(
            _rows_of_content,
            features=datasets.Features(features),
            gen_kwargs={
                "path": str(path),
                "sha256": file_hash(path),
                "labels": labels,
                "domains": domains and tuple(domains),  # datasets would take a list for shards
                "required": tuple(required),
            },
        )
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise
    finally:
        if progress_bars:
            datasets.enable_progress_bars()


def label_and_domain_names(
    path: str | Path, problem: ProblemType = "single_label", required: Sequence[str] = TRAINING
) -> tuple[list[str], list[str]]:
    """The class names and the domain names that occur in a table, each sorted."""
    labels, domains = set(), set()
    for row in read_rows(path, required=required):
        labels.add(row["label"])
        domains.add(row["domain"])
    return sorted_label_names(labels, problem), sorted(domains - {""})


def _rows_of_content(
    path: str, sha256: str, labels: Labels | None, domains: tuple[str, ...] | None, required: tuple[str, ...]
) -> Iterator[Row]:
    """`read_rows`; the hash is an argument so that the cache notices when the file has changed."""
    yield from read_rows(path, labels, domains, required)


def _check_columns(path: Path, row: int, columns: list[str], required: Sequence[str]) -> None:
    for name in required:
        if name not in columns:
            raise TableError(path, f"is missing; the columns are {columns}{nearest(name, columns)}", row, name)


def _check_names(path: Path, number: int, row: Row, labels: Labels | None, domains: Sequence[str] | None) -> None:
    unknown = labels.first_unknown(row["label"]) if labels is not None and row["label"] else None
    if labels is not None and unknown is not None:
        allowed = f"among the task's labels {list(labels.names)}" if labels.problem != "regression" else "a number"
        raise TableError(path, f"{unknown!r} is not {allowed}{nearest(unknown, labels.names)}", number, "label")
    if domains is not None and row["domain"] and row["domain"] not in domains:
        raise TableError(
            path, f"{row['domain']!r} is not among the task's domains {list(domains)}{nearest(row['domain'], domains)}",
            number, "domain",
        )  # fmt: skip


def _text(path: Path, row: int, field: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise TableError(path, f"is neither text nor a number: {value!r}", row, field)
    text = str(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # `formats.read` leaves lone surrogates where bytes are invalid
        raise TableError(path, "is not UTF-8; save the file as UTF-8", row, field) from None
    return text


def _weight(path: Path, row: int, value: Any) -> float | None:
    """None for an empty field: the row's label was missing or hidden when the weights were computed."""
    if value is None or value == "":
        return None
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise TableError(path, f"{value!r} is not a number from 0 up", row, "weight")
    return weight
