"""Vectors of a table's rows (embeddings, logits) in a folder: memory-mapped, keyed by guid."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from metakd.errors import InputError

VALUES, KEYS, DONE = "values.npy", "keys.npy", "done.npy"


def guid_keys(guids: Iterable[str]) -> np.ndarray:
    """16 bytes of a hash per guid [n]: fixed width, so that keys can be memory-mapped and searched."""
    return np.array(
        [hashlib.blake2b(guid.encode("utf-8", "surrogateescape"), digest_size=16).digest() for guid in guids],
        dtype="V16",
    )


def create(folder: Path, guids: Iterable[str], width: int) -> None:
    """Lay out an empty store [n, width]; one that an interrupted run has begun is kept."""
    if (folder / DONE).is_file():
        return
    keys = guid_keys(guids)
    np.save(folder / KEYS, keys, allow_pickle=False)
    np.lib.format.open_memmap(folder / VALUES, mode="w+", dtype=np.float32, shape=(len(keys), width)).flush()
    # Last and whole, since its presence says that the others are there.
    begun = folder / f"{DONE}.partial"
    np.lib.format.open_memmap(begun, mode="w+", dtype=np.bool_, shape=(len(keys),)).flush()
    begun.replace(folder / DONE)


class RowStore:
    """Values [n, width], float32, in table order."""

    def __init__(self, folder: Path, writable: bool = False) -> None:
        try:
            mode: Literal["r", "r+"] = "r+" if writable else "r"
            self.values = np.load(folder / VALUES, mmap_mode=mode, allow_pickle=False)
            self.keys = np.load(folder / KEYS, mmap_mode="r", allow_pickle=False)
            self.done = np.load(folder / DONE, mmap_mode="r+", allow_pickle=False) if writable else None
        except (FileNotFoundError, ValueError) as error:
            raise InputError(f"{folder} is not a folder of row vectors: {error}") from None
        self.folder = folder

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Set rows, then mark them as done, so that an interrupted run knows what is left."""
        assert self.done is not None
        self.values[rows] = values
        self.done[rows] = True

    def check(self, guids: Iterable[str]) -> None:
        """Refuse a store whose rows are not these, in this order."""
        keys, guids = self.keys, list(guids)
        if len(keys) != len(guids):
            raise InputError(
                f"{self.folder} has {len(keys)} rows, the table {len(guids)}: it was made from another table; "
                "make it again"
            )
        wrong = np.flatnonzero(guid_keys(guids) != keys)
        if len(wrong):
            raise InputError(
                f"{self.folder}: row {wrong[0] + 1} is not the table's {guids[wrong[0]]!r} ({len(wrong)} rows differ): "
                "it was made from another table; make it again"
            )
