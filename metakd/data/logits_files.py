"""Logits of a table's rows in a file: columns `guid` and `logit.LABEL` (or `probability.LABEL`).

Such a file may come from this project or from any other model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.special import logit as inverse_sigmoid

from metakd.data import formats
from metakd.data.formats import Row, TableError
from metakd.data.labels import Labels, finite_number
from metakd.errors import name_list

LOGIT, PROBABILITY = "logit.", "probability."
SHOWN = 3  # rows that an error names
BLOCK = 1000  # rows computed at a time
ROUNDING = 0.005  # of a probability with two decimals
NOT_FINITE = "are without finite logits or probabilities"


def prediction_columns(labels: Labels, kinds: Sequence[str]) -> list[str]:
    """The columns of a file of predictions.

    Args:
        kinds: among "predictions", "probabilities" (a regression has none) and "logits".
    """
    columns = ["guid"]
    if "predictions" in kinds:
        columns.append("prediction")
    if "probabilities" in kinds and labels.problem != "regression":
        columns += [PROBABILITY + name for name in labels.names]
    if "logits" in kinds:
        columns += [LOGIT + name for name in labels.names]
    return columns


def prediction_rows(
    guids: Sequence[str], logits: np.ndarray, labels: Labels, columns: Sequence[str], abstain_below: float = 0.0
) -> Iterator[Row]:
    """Yield the rows of a file of predictions, computed block by block; logits [n, C] may be memory-mapped.

    Args:
        abstain_below: the prediction is empty where no probability reaches this.
    """
    for start in range(0, len(logits), BLOCK):
        block = np.asarray(logits[start : start + BLOCK], dtype=np.float64)
        probabilities = labels.probabilities(block)
        predicted = labels.predicted(block)
        for i, guid in enumerate(guids[start : start + BLOCK]):
            sure = not abstain_below or probabilities[i].max() >= abstain_below
            row: Row = {"guid": guid, "prediction": labels.to_text(predicted[i]) if sure else ""}
            row |= {PROBABILITY + name: float(probabilities[i, c]) for c, name in enumerate(labels.names)}
            row |= {LOGIT + name: float(block[i, c]) for c, name in enumerate(labels.names)}
            yield {name: row[name] for name in columns}


def read_logits(path: str | Path, labels: Labels, guids: Sequence[str], needed: np.ndarray) -> np.ndarray:
    """Logits [n, C] of the rows with these guids; NaN in a row that is neither needed nor in the file.

    Rows are matched by guid and columns by label name, so the order of the file's rows and columns does not matter.
    Probabilities are converted to logits; those of a single-label task are first divided by their sum, which may
    differ from 1 as far as numbers with two decimals do.

    Args:
        labels: their names give the order of the C columns. If they are one domain's, the file may know more classes;
            the C probabilities are then what is left of all.
        guids: of all rows of the training tables [n].
        needed: rows (bool [n]) that the file must have.

    Raises:
        TableError: the file has columns of other labels, or rows that are missing, occur twice, are not in the
            tables, hold no finite numbers, percents, or probabilities that do not add up to 1. The message counts
            them and names the first ones.
    """
    path = Path(path)
    row_of_guid = _row_numbers(path, guids)
    values = np.full((len(guids), len(labels.names)), np.nan, dtype=np.float32)
    filled = np.zeros(len(guids), dtype=bool)
    problems: dict[str, list[str]] = defaultdict(list)
    columns: list[str] = []
    for number, raw in enumerate(formats.read(path, lambda name: name.startswith(("guid", LOGIT, PROBABILITY))), 1):
        if number == 1:
            columns = _value_columns(path, list(raw), labels)
        guid = "" if raw.get("guid") is None else str(raw["guid"])
        place = f"{guid!r} in row {number}"
        row = row_of_guid.get(guid)
        if row is None:
            problems["are not in the tables"].append(place)
            continue
        if filled[row]:
            problems["occur twice"].append(place)
        filled[row] = True
        numbers = _finite_numbers(raw, columns)
        problem = NOT_FINITE if numbers is None else ""
        if numbers is not None and columns[0].startswith(PROBABILITY):
            problem = _problem_of_probabilities(numbers, labels)
        if problem:
            problems[problem].append(place)
        elif numbers is not None:
            values[row] = numbers[: len(labels.names)]
    if not columns:
        raise TableError(path, "has no rows; write the file again")
    missing = [repr(guid) for guid, row in row_of_guid.items() if needed[row] and not filled[row]]
    if missing:
        problems["are missing"] = missing
    reports = [f"{len(places)} rows {what}, first {', '.join(places[:SHOWN])}" for what, places in problems.items()]
    if reports:
        raise TableError(path, f"does not fit the training tables: {'; '.join(reports)}; write the file again")
    return values if columns[0].startswith(LOGIT) else _from_probabilities(values, labels)


def _row_numbers(path: Path, guids: Sequence[str]) -> dict[str, int]:
    """The row number of each guid; guids are unique in a table, so one that occurs twice is in both tables."""
    row_of_guid: dict[str, int] = {}
    for row, guid in enumerate(guids):
        if guid in row_of_guid:
            raise TableError(path, f"cannot be aligned: the guid {guid!r} is in both training tables")
        row_of_guid[guid] = row
    return row_of_guid


def _value_columns(path: Path, columns: list[str], labels: Labels) -> list[str]:
    """The names of the columns to read, first those of the labels in their order; logits rather than probabilities."""
    if "guid" not in columns:
        raise TableError(path, f"has no column 'guid'; its columns are {name_list(columns)}", 1)
    prefixes = (LOGIT,) if labels.problem == "regression" else (LOGIT, PROBABILITY)
    for prefix in prefixes:
        names = [name.removeprefix(prefix) for name in columns if name.startswith(prefix)]
        if names:
            others = [name for name in names if name not in labels.names]
            if len(names) - len(others) != len(labels.names) or (others and not labels.domain):
                raise TableError(
                    path, f"has {prefix}columns for {name_list(names)}, the labels are {name_list(labels.names)}", 1
                )
            return [prefix + name for name in (*labels.names, *others)]
    wanted = [[prefix + name for name in labels.names] for prefix in (LOGIT, PROBABILITY)]
    raise TableError(
        path,
        f"has neither columns {name_list(wanted[0])} nor {name_list(wanted[1])}; its columns are {name_list(columns)}",
        1,
    )


def _finite_numbers(raw: Row, columns: list[str]) -> np.ndarray | None:
    """The numbers of a row [C]; None if they are not finite in fp32."""
    numbers = [finite_number(raw.get(name)) for name in columns]
    return None if None in numbers else np.array(numbers, dtype=np.float64)


def _problem_of_probabilities(values: np.ndarray, labels: Labels) -> str:
    """What is wrong with a row's probabilities [C]; empty if nothing is."""
    tolerance = min(max(0.01, ROUNDING * len(values)), 0.2) + 1e-6
    one_class = labels.problem == "single_label"
    for unit, problem in ((1, ""), (100, "are percents, which must be divided by 100")):
        in_range = values.min() >= -ROUNDING and values.max() <= unit * (1 + ROUNDING)
        sums_up = abs(values.sum() / unit - 1) <= tolerance if one_class else unit == 1 or values.max() > 2
        if in_range and sums_up:
            return problem
    return f"are no probabilities from 0 to 1{' that add up to 1' * one_class}"


def _from_probabilities(values: np.ndarray, labels: Labels) -> np.ndarray:
    """Logits with these probabilities, which are first clipped to [1e-6, 1 - 1e-6]."""
    if labels.problem == "single_label":
        values = values / np.maximum(values.sum(1, keepdims=True), 1e-12)  # a domain's own classes may have none
    clipped = np.clip(values, 1e-6, 1 - 1e-6)
    return inverse_sigmoid(clipped) if labels.problem == "multi_label" else np.log(clipped)
