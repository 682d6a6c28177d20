"""One vector per row of a table (embeddings, logits) in a folder: memory-mapped, with a key per guid."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from metakd.errors import InputError

log = logging.getLogger(__name__)
VALUES, KEYS, DONE = "values.npy", "keys.npy", "done.npy"
BLOCK = 1 << 20  # bytes written at a time where the system cannot allocate
KEY = np.dtype("V16")  # of a guid


def guid_keys(guids: Iterable[str]) -> np.ndarray:
    """A hash of 16 bytes per guid [n]; its fixed width lets the keys be memory-mapped."""
    return np.array(
        [hashlib.blake2b(guid.encode("utf-8", "surrogateescape"), digest_size=16).digest() for guid in guids],
        dtype=KEY,
    )


def create_store(folder: Path, guids: Iterable[str], width: int) -> None:
    """Create an empty store [n, width] in a folder; a store that is already there is kept, to be continued.

    Raises:
        OSError: the disk is full.
    """
    guids = list(guids)
    if (folder / DONE).is_file():
        try:
            RowStore(folder, writable=True).require_guids(guids)
            return
        except InputError as error:
            log.warning("%s; it is begun afresh", error)
            (folder / DONE).unlink()
    keys = guid_keys(guids)
    np.save(folder / KEYS, keys, allow_pickle=False)
    np.lib.format.open_memmap(folder / VALUES, mode="w+", dtype=np.float32, shape=(len(keys), width)).flush()
    allocate(folder / VALUES, (folder / VALUES).stat().st_size)
    # Written last and renamed: its presence says that the other two files are complete.
    partial = folder / f"{DONE}.partial"
    np.lib.format.open_memmap(partial, mode="w+", dtype=np.bool_, shape=(len(keys),)).flush()
    allocate(partial, partial.stat().st_size)
    partial.replace(folder / DONE)


def allocate(path: Path, size: int) -> None:
    """Give a file disk space for so many bytes; a new one holds zeros.

    A memory-mapped file without space would end the process by SIGBUS, without a message, once the disk is full.

    Raises:
        OSError: the disk is full.
    """
    path.touch()
    try:
        with path.open("r+b") as file:
            if not _system_allocates(file.fileno(), size):
                for start in range(0, size, BLOCK):
                    length = min(BLOCK, size - start)
                    file.seek(start)
                    block = file.read(length)
                    file.seek(start)
                    file.write(block.ljust(length, b"\0"))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _system_allocates(file: int, size: int) -> bool:
    """Let the system allocate; False if it cannot: macOS does not know how, nor do some file systems."""
    if not hasattr(os, "posix_fallocate") or not size:
        return False
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True


def _load(path: Path, writable: bool = False) -> np.ndarray:
    """A memory-mapped array."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path.name} is an archive")
    # Opened for writing, a file that was cut short would have been filled up with zeros.
    return np.load(path, mmap_mode="r+", allow_pickle=False) if writable else array


def _problem(values: np.ndarray, keys: np.ndarray, done: np.ndarray | None) -> str:
    """What is wrong with the arrays of a store; empty if nothing is."""
    if values.dtype != np.float32 or values.ndim != 2 or values.shape[1] == 0:
        return f"{VALUES} holds {values.dtype} {list(values.shape)}, not float32 [rows, width]"
    if keys.dtype != KEY or keys.ndim != 1:
        return f"{KEYS} holds {keys.dtype} {list(keys.shape)}, not hashes of guids [rows]"
    if len(keys) != len(values):
        return f"{VALUES} has {len(values)} rows, {KEYS} {len(keys)}"
    if done is not None and (done.dtype != np.bool_ or done.shape != keys.shape):
        return f"{DONE} holds {done.dtype} {list(done.shape)}, not a mark for each of {len(keys)} rows"
    return ""


class RowStore:
    """The vectors of a store: `values` [n, width], float32, in table order.

    Raises:
        InputError: the folder has no store, or a damaged one.
    """

    def __init__(self, folder: Path, writable: bool = False) -> None:
        try:
            self.values, self.keys = _load(folder / VALUES, writable), _load(folder / KEYS)
            self.done = _load(folder / DONE, writable) if writable else None
            problem = _problem(self.values, self.keys, self.done)
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
