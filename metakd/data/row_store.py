"""One vector per row of a table (embeddings, logits) in a folder: memory-mapped, with a key per guid."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from metakd.errors import InputError

VALUES, KEYS, DONE = "values.npy", "keys.npy", "done.npy"
KEY = np.dtype("V16")  # of a guid


def guid_keys(guids: Iterable[str]) -> np.ndarray:
    """A hash of 16 bytes per guid [n]; its fixed width lets the keys be memory-mapped."""
    return np.array(
        [hashlib.blake2b(guid.encode("utf-8", "surrogateescape"), digest_size=16).digest() for guid in guids],
        dtype=KEY,
    )


def create_store(folder: Path, guids: Iterable[str], width: int) -> None:
    """Create an empty store [n, width] in a folder; a store that is already there is kept, to be continued."""
    if (folder / DONE).is_file():
        return
    keys = guid_keys(guids)
    np.save(folder / KEYS, keys, allow_pickle=False)
    np.lib.format.open_memmap(folder / VALUES, mode="w+", dtype=np.float32, shape=(len(keys), width)).flush()
    # Written last and renamed: its presence says that the other two files are complete.
    partial = folder / f"{DONE}.partial"
    np.lib.format.open_memmap(partial, mode="w+", dtype=np.bool_, shape=(len(keys),)).flush()
    partial.replace(folder / DONE)


def _problem(values: np.ndarray, keys: np.ndarray) -> str:
    """What is wrong with the arrays of a store; empty if nothing is."""
    if not (isinstance(values, np.ndarray) and isinstance(keys, np.ndarray)):
        return "it holds archives, not arrays"
    if values.dtype != np.float32 or values.ndim != 2 or values.shape[1] == 0:
        return f"{VALUES} holds {values.dtype} {list(values.shape)}, not float32 [rows, width]"
    if keys.dtype != KEY or keys.ndim != 1:
        return f"{KEYS} holds {keys.dtype} {list(keys.shape)}, not hashes of guids [rows]"
    return "" if len(keys) == len(values) else f"{VALUES} has {len(values)} rows, {KEYS} {len(keys)}"


class RowStore:
    """The vectors of a store: `values` [n, width], float32, in table order.

    Raises:
        InputError: the folder has no store, or a damaged one.
    """

    def __init__(self, folder: Path, writable: bool = False) -> None:
        try:
            mode: Literal["r", "r+"] = "r+" if writable else "r"
            self.values = np.load(folder / VALUES, mmap_mode=mode, allow_pickle=False)
            self.keys = np.load(folder / KEYS, mmap_mode="r", allow_pickle=False)
            self.done = np.load(folder / DONE, mmap_mode="r+", allow_pickle=False) if writable else None
            problem = _problem(self.values, self.keys)
        except PermissionError:
            raise
        except Exception as error:  # what numpy raises for a damaged file is of any type
            problem = str(error)
        if problem:
            raise InputError(f"{folder} is not a folder of row vectors: {problem}; make it again")
        self.folder = folder

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Write the vectors of some rows, then mark the rows as done; an interrupted run continues from the marks."""
        assert self.done is not None
        self.values[rows] = values
        self.done[rows] = True

    def require_guids(self, guids: Iterable[str]) -> None:
        """Raise InputError unless the store has exactly the rows with these guids, in this order."""
        guids = list(guids)
        if len(self.keys) != len(guids):
            raise InputError(
                f"{self.folder} has {len(self.keys)} rows, the table {len(guids)}: it was made from another table; "
                "make it again"
            )
        different = np.flatnonzero(guid_keys(guids) != self.keys)
        if len(different):
            raise InputError(
                f"{self.folder}: row {different[0] + 1} is not the table's {guids[different[0]]!r} "
                f"({len(different)} rows differ): it was made from another table; make it again"
            )
