"""Hashes of inputs and the manifests that say what an output was made from. Nothing here imports torch."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import sys
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import metakd

MANIFEST = "manifest.json"
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "numpy", "scikit-learn")
MODEL_FILES = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_hash(path: Path, patterns: tuple[str, ...] = ("*",)) -> str:
    """One hash over names and bytes of the files that match, the manifest left out."""
    digest = hashlib.sha256()
    for file in sorted(_files(path, patterns)):
        digest.update(f"{file.relative_to(path)} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def content_hash(path: str | Path) -> str:
    """Hash of an input: a file's bytes, or what a step's or a model's folder holds; a Hub name stands for itself.

    What a step has made was hashed then, and is hashed again only if files have other sizes or times since.
    """
    path = Path(path)
    if path.is_file():
        return file_hash(path)
    if not path.is_dir():
        return f"name:{path}"
    known = read(path / MANIFEST)
    if "content" not in known:
        return folder_hash(path, MODEL_FILES)
    return known["content"] if known.get("files") == file_times(path) else folder_hash(path)


def file_times(path: Path) -> dict[str, list[int]]:
    """Size and time of each file of a folder but the manifest, to notice that one was exchanged."""
    return {
        file.relative_to(path).as_posix(): [file.stat().st_size, file.stat().st_mtime_ns]
        for file in sorted(_files(path, ("*",)))
    }


def _files(path: Path, patterns: tuple[str, ...]) -> set[Path]:
    return {file for p in patterns for file in path.rglob(p) if file.is_file() and file.name != MANIFEST}


def read(path: Path) -> dict[str, Any]:
    """A manifest; empty where there is none that can be read."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def plain(value: Any) -> Any:
    """Settings as JSON holds them."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def write_json(path: Path, value: Any) -> None:
    """Write whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    temporary.replace(path)


def circumstances() -> dict[str, Any]:
    """Where and with what an output was made."""
    found = {"metakd": metakd.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # data preparation runs without torch
            continue
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return {"versions": found, "processes": processes, "machine": f"{platform.machine()}, {os.cpu_count()} cores"}


def peak_memory() -> int:
    """Most memory that this process has held so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 1_000_000
