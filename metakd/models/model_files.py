"""What is wrong with the files of a model's folder, in words: whatever a library raises becomes an InputError."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from metakd.errors import InputError, Interrupted, chain, disk_error_number

LFS_POINTER = b"version https://git-lfs"  # first bytes of a file that Git LFS has not fetched


@contextmanager
def reading(name: str | Path, what: str) -> Iterator[None]:
    """Turn whatever a library raises while it reads a folder into an InputError.

    Args:
        name: folder or Hub name.
        what: is read, e.g. "tokenizer".
    """
    with explaining(lambda why: f"no {what} could be loaded from {str(name)!r}{hint(Path(name))}: {why}"):
        yield


@contextmanager
def explaining(message: Callable[[str], str]) -> Iterator[None]:
    """Turn whatever a library raises on a bad file or model into an InputError.

    Args:
        message: of the error, from the library's own in one line.
    """
    try:
        yield
    except (InputError, Interrupted, MemoryError, torch.OutOfMemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # libraries raise anything, those in Rust even what is no Exception
        if any(disk_error_number(cause) is not None for cause in chain(error)):  # not the file's fault
            raise
        raise InputError(message(reason(error))) from error


def hint(folder: Path) -> str:
    """Where the fault of a folder that cannot be loaded lies, in brackets; empty if nobody knows."""
    if not folder.exists():
        return " (there is no folder of this name, so the Hub was asked)"
    bad_file = next(filter(None, map(fault_of, sorted(folder.glob("*")))), None) if folder.is_dir() else None
    if bad_file is not None:
        return f" ({bad_file}; make or fetch it again)"
    subfolders = sorted(file.parent.name for file in folder.glob("*/config.json"))
    return f" (its folders {subfolders[:3]} hold models)" if subfolders else ""


def fault_of(file: Path) -> str | None:
    """What is wrong with a file of a model folder; None if nothing shows."""
    try:
        if file.suffix == ".json":
            json.loads(file.read_bytes())
        elif file.suffix == ".safetensors":
            with safe_open(file, framework="pt"):
                pass
        elif file.suffix == ".bin" and not file.stat().st_size:
            return f"{file.name} is empty"
    except Exception as error:  # damaged in any way
        return f"{file.name} is damaged or cut short: {reason(error)}"
    return None


def refuse_pointers(name: str) -> None:
    """Refuse a folder with files that Git LFS has not fetched; a vocabulary could be loaded from such a file."""
    for file in sorted(Path(name).glob("*")) if Path(name).is_dir() else []:
        if file.is_file():
            with file.open("rb") as content:
                if content.read(len(LFS_POINTER)) == LFS_POINTER:
                    raise InputError(f"{file} is a pointer of Git LFS, not the file itself; run: git lfs pull")


def reason(error: BaseException) -> str:
    """An error in one line of at most 300 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else text[:297] + "..."


def some(names: Collection[Any] | Iterator[Any]) -> str:
    """The first names, and how many more there are."""
    ordered = sorted(map(str, names))
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(ordered[:3]) + more
