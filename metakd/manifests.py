"""Hashes of inputs, and the manifests that say what an output was made from. Nothing here imports torch."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import sys
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import metakd
from metakd.errors import InputError
from metakd.fingerprint import model_revision

MANIFEST = "manifest.json"
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "numpy", "scikit-learn")
# A downloaded model folder may hold the same weights for other libraries too, gigabytes that nothing here reads.
MODEL_FILES = {".safetensors", ".bin", ".json", ".txt", ".model"}


def content_hash(path: str | Path) -> str:
    """Hash of an input: a file, an output folder of a step, a model folder, or a Hugging Face Hub name (a str).

    The manifest of a step's output holds its hash. It is used as long as all files have the sizes and times that the
    manifest lists.

    Raises:
        InputError: there is no such file, folder or Hub model.
    """
    place = Path(path)
    if place.is_file():
        return file_hash(place)
    if place.is_dir():
        manifest = read_json(place / MANIFEST)
        if "content" not in manifest:
            return folder_hash(place, MODEL_FILES)
        return manifest["content"] if manifest.get("files") == file_times(place) else folder_hash(place)
    if isinstance(path, Path):
        raise InputError(f"{path}: no such file or folder; correct the path")
    return model_revision(path)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_hash(folder: Path, suffixes: set[str] | None = None) -> str:
    """SHA-256 over names and bytes of a folder's files, without the manifest; of these suffixes alone if named."""
    digest = hashlib.sha256()
    for file in files_in(folder):
        if suffixes is None or file.suffix in suffixes:
            digest.update(f"{file.relative_to(folder)} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def file_times(folder: Path) -> dict[str, list[int]]:
    """Size in bytes and modification time in ns of each file of a folder but the manifest, by relative path."""
    times = {}
    for file in files_in(folder):
        status = file.stat()
        times[file.relative_to(folder).as_posix()] = [status.st_size, status.st_mtime_ns]
    return times


def files_in(folder: Path) -> Iterator[Path]:
    """All files of a folder and its subfolders but the manifest, sorted."""
    return (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != MANIFEST)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if the file is missing or holds none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all. Dataclasses become objects, paths become text.

    Raises:
        ValueError: a number is not finite; JSON has no name for it.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=_to_basic_type)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text + "\n", "utf-8")
    partial.replace(path)


def to_jsonable(value: Any) -> Any:
    """The value as it would come back from a JSON file: dataclasses are dicts, paths are text, tuples are lists."""
    return json.loads(json.dumps(value, allow_nan=False, default=_to_basic_type))


def _to_basic_type(value: Any) -> Any:
    """What `json` can hold in place of a value that it cannot hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"JSON cannot hold {value!r} ({type(value).__name__})")


def environment_info() -> dict[str, Any]:
    """Versions of the packages, number of processes and machine of this run."""
    versions = {"metakd": metakd.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # data preparation runs without torch
            continue
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return {"versions": versions, "processes": processes, "machine": f"{platform.machine()}, {os.cpu_count()} cores"}


def peak_memory() -> int:
    """The most memory that this process has held so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 1_000_000
