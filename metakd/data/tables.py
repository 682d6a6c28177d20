"""Tables of text: guid, text_a, text_b, label, domain[, weight] as TSV, CSV, JSONL or Parquet.

Rows are read and checked one at a time; `load_table` keeps them in a memory-mapped Arrow file.
An error names the file, the row (the first row below the header is row 1) and the field.
"""

from __future__ import annotations

import functools
import itertools
import math
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metakd.data import formats
from metakd.data.formats import Row, TableError
from metakd.data.labels import Labels, ProblemType, finite_number, require_different, sorted_label_names
from metakd.errors import InputError, name_list, nearest
from metakd.manifests import file_hash

if TYPE_CHECKING:  # slow to import, and most functions here do not need it
    from datasets import Dataset

# Columns that every row must fill. Training tables may have rows without a label, which only a student sees.
LABELLED = ("guid", "text_a", "label", "domain")
TRAINING = ("guid", "text_a", "domain")
UNLABELLED = ("guid", "text_a")
LARGEST_WEIGHT = 1e6  # larger ones overflow in sums of losses
COLUMNS = ("guid", "text_a", "text_b", "label", "domain")


def read_rows(
    path: str | Path,
    labels: Labels | None = None,
    domains: Sequence[str] | None = None,
    required: Sequence[str] = LABELLED,
) -> Iterator[Row]:
    """Yield the checked rows of a table, in order, with the columns of `COLUMNS` and, if the table has it, `weight`.

    Labels and domains come without space around them; null and NaN are empty. Where the labels are those of one
    domain, rows of other domains come without label.

    Args:
        labels, domains: the names that are allowed; None allows any.
        required: columns that every row must fill; others may be empty or missing, and are read as "".

    Raises:
        TableError: a missing or misspelt column, broken quoting, invalid UTF-8, a damaged file, an empty field that
            is required, a name that is not allowed, a guid that occurs twice, or a weight that is not a number from
            0 up.
    """
    path = Path(path)
    guids: set[str] = set()
    weighted = False
    checked_columns: list[str] = []
    label_names = frozenset(labels.names) if labels is not None else frozenset()
    domain_names = frozenset(domains) if domains is not None else None
    for number, raw in enumerate(formats.read(path, {*COLUMNS, "weight"}.__contains__), 1):
        if (columns := list(raw)) != checked_columns:
            check_columns(path, number, columns, required)
            checked_columns = columns
        row = checked_texts(path, number, raw, required)
        row["label"], row["domain"] = row["label"].strip(), row["domain"].strip()
        if labels is not None and labels.domain not in ("", row["domain"]):
            row["label"] = ""
        unknown = labels.first_unknown(row["label"], label_names) if labels is not None and row["label"] else None
        if labels is not None and unknown is not None:
            allowed = (
                "a number" if labels.problem == "regression" else f"among the task's labels {name_list(labels.names)}"
            )
            raise TableError(path, f"{unknown!r} is not {allowed}{nearest(unknown, labels.names)}", number, "label")
        if domain_names is not None and row["domain"] and row["domain"] not in domain_names:
            hint = f"{name_list(domains or ())}{nearest(row['domain'], domains or ())}"
            raise TableError(path, f"{row['domain']!r} is not among the task's domains {hint}", number, "domain")
        if row["guid"] in guids:
            raise TableError(path, f"{row['guid']!r} occurs twice; guids must be unique", number, "guid")
        guids.add(row["guid"])
        if number == 1:
            weighted = "weight" in raw
        if weighted:
            if "weight" not in raw:
                raise TableError(path, "is missing, but row 1 has it; give all rows one, or none", number, "weight")
            row["weight"] = _weight(path, number, raw["weight"])
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
    formats.require_file(path)
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
                "sha256": f"{file_hash(path)} {reading_code()}",
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
    path: str | Path, problem: ProblemType = "single_label", domain: str = ""
) -> tuple[list[str], list[str]]:
    """The class names and the domain names that occur in a training table, each sorted.

    Args:
        domain: whose class names are returned; "" for all.

    Raises:
        TableError: see `read_rows`.
        InputError: two names are one value in two spellings.
    """
    labels, domains = set(), set()
    for row in read_rows(path, required=TRAINING):
        if domain in ("", row["domain"]):
            labels.add(row["label"])
        domains.add(row["domain"])
    label_names, domain_names = sorted_label_names(labels, problem), sorted(domains - {""})
    require_different(label_names, f"{path}, field 'label'")
    require_different(domain_names, f"{path}, field 'domain'")
    return label_names, domain_names


def domain_names(path: str | Path, domain: str = "", required: Sequence[str] = LABELLED) -> list[str]:
    """The domain names that occur in a table, sorted.

    Raises:
        TableError: see `read_rows`.
        InputError: two names are one value in two spellings, or `domain` is named and not among them.
    """
    names = sorted({row["domain"] for row in read_rows(path, required=required)} - {""})
    require_different(names, f"{path}, field 'domain'")
    if domain and domain not in names:
        raise InputError(f"--domain {domain}: {path} has {name_list(names)}{nearest(domain, names)}")
    return names


@functools.cache
def reading_code() -> str:
    """A hash of the code that reads tables: rows that other code put into the datasets cache are not used."""
    modules = ("formats.py", "labels.py", "tables.py")
    return " ".join(file_hash(Path(__file__).with_name(name)) for name in modules)


def _rows_of_content(
    path: str, sha256: str, labels: Labels | None, domains: tuple[str, ...] | None, required: tuple[str, ...]
) -> Iterator[Row]:
    """`read_rows`; the hash is an argument so that the cache notices when the file or the code has changed."""
    yield from read_rows(path, labels, domains, required)


def check_columns(path: Path, row: int, columns: list[str], required: Sequence[str]) -> None:
    """Raise TableError if a required column is missing, or another has a name one letter away from a known one."""
    known = (*COLUMNS, "weight")
    for name in known:
        if name in columns:
            continue
        if name in required:
            raise TableError(
                path, f"is missing; the columns are {name_list(columns)}{nearest(name, columns)}", row, name
            )
        for other in columns:
            if other not in known and _one_letter_apart(other.strip().casefold(), name):
                raise TableError(path, f"did you mean {name!r}? Rename or remove the column", row, other)


def checked_texts(path: Path, number: int, raw: Row, required: Sequence[str]) -> Row:
    """The columns of `COLUMNS` of a row as text, "" where there is none.

    Raises:
        TableError: a value that is no text, or an empty one that is required.
    """
    row: Row = {name: _text(path, number, name, raw.get(name)) for name in COLUMNS}
    for name in required:
        if not row[name].strip():
            raise TableError(path, "is empty; fill it or remove the row", number, name)
    return row


def _one_letter_apart(one: str, other: str) -> bool:
    """Whether two names are equal but for one letter that is changed, missing or too much, or equal."""
    if len(one) == len(other):
        return sum(a != b for a, b in zip(one, other, strict=True)) < 2
    short, long = sorted((one, other), key=len)
    return any(long[:i] + long[i + 1 :] == short for i in range(len(long)))


def _text(path: Path, row: int, field: str, value: Any) -> str:
    if isinstance(value, str):
        text = value
    elif value is None or value != value:  # NaN, which is how some programs write an empty field
        return ""
    elif isinstance(value, int | float) and abs(value) < math.inf:
        text = str(value)
    else:
        raise TableError(path, f"is neither text nor a finite number: {reprlib.repr(value)}", row, field)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # `formats.read` leaves lone surrogates where bytes are invalid
        raise TableError(path, "is not UTF-8; save the file as UTF-8", row, field) from None
    return text


def _weight(path: Path, row: int, value: Any) -> float | None:
    """None for an empty field: the row's label was missing or hidden when the weights were computed."""
    if value is None or value == "" or value != value:
        return None
    weight = finite_number(value)
    if weight is None or not 0 <= weight <= LARGEST_WEIGHT:
        problem = f"{reprlib.repr(value)} is not a number from 0 to {LARGEST_WEIGHT:g}"
        raise TableError(path, problem, row, "weight")
    return weight
