"""Logits of a table in a file, ours or anyone's: columns `guid` and `logit.LABEL` (or `probability.LABEL`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.special import expit, softmax
from scipy.special import logit as inverse_sigmoid

from metakd.data import formats
from metakd.data.formats import Row, TableError
from metakd.data.labels import Labels
from metakd.data.row_store import guid_keys

LOGIT, PROBABILITY = "logit.", "probability."
SHOWN = 3  # offenders named in an error
BLOCK = 1000  # rows written at a time


def prediction_columns(labels: Labels, kinds: Sequence[str]) -> list[str]:
    """Columns of a file of predictions.

    Args:
        kinds: among "predictions", "probabilities" (a regression has none) and "logits".
    """
    columns = ["guid"] + ["prediction"] * ("predictions" in kinds)
    if "probabilities" in kinds and labels.problem != "regression":
        columns += [PROBABILITY + name for name in labels.names]
    return columns + [LOGIT + name for name in labels.names] * ("logits" in kinds)


def prediction_rows(guids: Sequence[str], logits: np.ndarray, labels: Labels, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file of predictions, a block at a time; logits [n, C] may be memory-mapped."""
    for start in range(0, len(logits), BLOCK):
        block = np.asarray(logits[start : start + BLOCK], dtype=np.float64)
        chances = expit(block) if labels.problem == "multi_label" else softmax(block, axis=1)
        predicted = labels.predicted(block)
        for i, guid in enumerate(guids[start : start + BLOCK]):
            row: Row = {"guid": guid, "prediction": labels.spelt(predicted[i])}
            row |= {PROBABILITY + name: float(chances[i, c]) for c, name in enumerate(labels.names)}
            row |= {LOGIT + name: float(block[i, c]) for c, name in enumerate(labels.names)}
            yield {name: row[name] for name in columns}


def read_logits(path: str | Path, labels: Labels, guids: Sequence[str], needed: np.ndarray) -> np.ndarray:
    """Logits [n, C] of the rows with these guids, columns in the order of `labels`; NaN where none are needed.

    Rows are matched by guid and columns by label name, so neither order matters. The file is read row by row.

    Args:
        guids: of all rows of the training tables [n].
        needed: rows (bool [n]) that must be there.

    Raises:
        TableError: columns of other labels; rows that are missing, occur twice, are not in the tables, or hold
            what is no finite number. Each is counted, and the first of them are named.
    """
    path = Path(path)
    keys = guid_keys(guids)
    order = np.argsort(keys)
    ordered = keys[order]
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twice):
        raise TableError(path, f"cannot be aligned: the guid {guids[order[twice[0]]]!r} is in both training tables")
    values = np.full((len(guids), len(labels.names)), np.nan, dtype=np.float32)
    filled = np.zeros(len(guids), dtype=bool)
    wrong: dict[str, list[str]] = {
        "not in the tables": [],
        "there twice": [],
        "without finite logits or probabilities": [],
    }
    columns: list[str] = []
    for number, raw in enumerate(formats.read(path), 1):
        if not columns:
            columns = logit_columns(path, list(raw), labels)
        guid = str(raw.get("guid"))
        key = guid_keys([guid])
        place = int(np.searchsorted(ordered, key)[0])
        if place == len(ordered) or ordered[place] != key[0]:
            wrong["not in the tables"].append(f"{guid!r} in row {number}")
            continue
        row = order[place]
        if filled[row]:
            wrong["there twice"].append(f"{guid!r} in row {number}")
        filled[row] = True
        found = numbers(raw, columns, labels)
        if found is None:
            wrong["without finite logits or probabilities"].append(f"{guid!r} in row {number}")
        else:
            values[row] = found
    missing = np.flatnonzero(needed & ~filled)
    wrong["missing"] = [repr(guids[row]) for row in missing[:SHOWN]] + [""] * max(0, len(missing) - SHOWN)
    problems = [
        f"{len(found)} rows are {what}, first {', '.join(found[:SHOWN])}" for what, found in wrong.items() if found
    ]
    if problems:
        raise TableError(path, "does not fit the training tables: " + "; ".join(problems) + "; write the file again")
    return values if columns[0].startswith(LOGIT) else from_probabilities(values, labels)


def logit_columns(path: Path, found: list[str], labels: Labels) -> list[str]:
    """Names of the columns to read, in the order of the labels."""
    if "guid" not in found:
        raise TableError(path, f"has no column 'guid'; found {found}", 1)
    for prefix in (LOGIT, PROBABILITY):
        names = [name.removeprefix(prefix) for name in found if name.startswith(prefix)]
        if names:
            if sorted(names) != sorted(labels.names):
                raise TableError(path, f"has {prefix}columns for {names}, the labels are {list(labels.names)}", 1)
            return [prefix + name for name in labels.names]
    wanted = [LOGIT + name for name in labels.names]
    raise TableError(path, f"has neither columns {wanted} nor such with {PROBABILITY!r}; found {found}", 1)


def numbers(raw: Row, columns: list[str], labels: Labels) -> np.ndarray | None:
    """The row's numbers; None if one of them is no finite number, or if they should be probabilities and are not."""
    try:
        found = np.array([raw[name] for name in columns], dtype=np.float32)
    except (TypeError, ValueError, KeyError):
        return None
    if columns[0].startswith(PROBABILITY) and not is_distribution(found, labels):
        return None
    return found if np.isfinite(found).all() else None


def is_distribution(values: np.ndarray, labels: Labels) -> bool:
    """Whether these are probabilities, not percentages; those of a single-label task add up to 1."""
    inside = bool(((values >= 0) & (values <= 1)).all())
    return inside and (labels.problem != "single_label" or abs(float(values.sum()) - 1) < 0.01)


def from_probabilities(values: np.ndarray, labels: Labels) -> np.ndarray:
    """Logits that give these probabilities; zeros and ones are moved inside by 1e-6."""
    clipped = np.clip(values, 1e-6, 1 - 1e-6)
    return inverse_sigmoid(clipped) if labels.problem == "multi_label" else np.log(clipped)
