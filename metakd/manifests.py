"""Hashes of inputs, and the manifests that say what an output was made from. Nothing here imports torch."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
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
MODEL_FILES = {".safetensors", ".bin", ".json", ".txt", ".model", ".onnx"}


def content_hash(path: str | Path) -> str:
    """Hash of an input: a file, an output folder of a step, a model folder, or a Hugging Face Hub name (a str).

    Of a step's output only the files that were published count. Its manifest holds their hash, which is used as long
    as all of them have the sizes and times that the manifest lists. Of any other folder its model files count.

    Raises:
        InputError: there is no such file, folder or Hub model.
    """
    place = Path(path)
    if place.is_file():
        return file_hash(place)
    if place.is_dir():
        manifest = read_json(place / MANIFEST)
        if "content" not in manifest:
            return folder_hash(place, [path.name for path in sorted(place.iterdir()) if is_model_file(path)])
        files = published_files(manifest)
        if files and all(same_times(place / name, record) for name, record in files.items()):
            return manifest["content"]
        names = [name for name in sorted_names(files) if (place / name).is_file()] if files else files_in(place)
        return folder_hash(place, names)
    if isinstance(path, Path):
        raise InputError(f"{path}: no such file or folder; correct the path")
    return model_revision(path)


def is_model_file(path: Path) -> bool:
    """Whether a file directly in a model folder is read with the model; system files start with a dot."""
    return path.suffix in MODEL_FILES and not path.name.startswith(".") and path.is_file()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_hash(folder: Path, names: Iterable[str]) -> str:
    """SHA-256 over names and bytes of a folder's files."""
    return combined_hash((name, file_hash(folder / name)) for name in names)


def combined_hash(hashes: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over (name, hash) of some files."""
    digest = hashlib.sha256()
    for name, value in hashes:
        digest.update(f"{name} {value}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def file_record(path: Path) -> list[Any]:
    """What a manifest holds of a published file: size in bytes, modification time in ns, SHA-256."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, file_hash(path)]


def published_files(manifest: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The record of each file that a step published, by relative path; early versions wrote no hash, or nothing."""
    files = manifest.get("files")
    records = files.items() if isinstance(files, dict) else ()
    return {name: record for name, record in records if isinstance(record, list) and len(record) >= 2}


def same_times(path: Path, record: Sequence[Any]) -> bool:
    """Whether a file has the size and time that were recorded."""
    try:
        status = path.stat()
    except OSError:
        return False
    return [status.st_size, status.st_mtime_ns] == list(record[:2])


def damage(folder: Path, manifest: Mapping[str, Any], verify: bool) -> str:
    """What has happened to a published file since, in words; "" if nothing has.

    Args:
        verify: compare hashes as well as sizes.
    """
    for name, (size, _, *hashes) in published_files(manifest).items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        if verify and hashes and file_hash(path) != hashes[0]:
            return f"{name} has other bytes"
    return ""


def find_manifest(output: Path) -> Path | None:
    """The manifest of the step that made a file or folder; None if no step made it.

    The manifest lies inside a folder, beside a file, or in the folder that the output is a part of.
    """
    if not output.exists():  # a Hub name, or an input that was removed
        return None
    places = (output / MANIFEST, output.parent / f"{output.name}.{MANIFEST}", output.parent / MANIFEST)
    return next((place for place in places if place.is_file() and "made_by" in read_json(place)), None)


def changed_afterwards(path: Path, verify: bool) -> str:
    """What has happened to a file or folder since a step published it, in words; "" if nothing has, or no step did.

    Args:
        verify: compare hashes as well as sizes.
    """
    manifest = find_manifest(path)
    if manifest is None:
        return ""
    files = published_files(read_json(manifest))
    if manifest.parent != path:  # a file alone, or of a folder's files
        files = {name: record for name, record in files.items() if name == path.name}
    return damage(manifest.parent, {"files": files}, verify)


def foreign_files(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Relative paths of what lies in an output folder without having been published: files, and links to anything."""
    return [name for name in files_in(folder) if name not in published_files(manifest)]


def files_in(folder: Path) -> list[str]:
    """Relative paths of all files and links in a folder and its subfolders but its manifest, sorted by folder."""
    names = []
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        names += [Path(place, name).relative_to(folder).as_posix() for name in (*files, *links)]
    return sorted_names(name for name in names if name not in (MANIFEST, f"{MANIFEST}.partial"))


def regular_files_in(folder: Path) -> list[str]:
    """`files_in` without links, which lead to what is not ours."""
    return [name for name in files_in(folder) if not (folder / name).is_symlink()]


def sorted_names(names: Iterable[str]) -> list[str]:
    """Relative paths in the order of their parts."""
    return sorted(names, key=lambda name: Path(name).parts)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if the file is missing or holds none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def json_text(value: Any) -> str:
    """JSON text. Dataclasses become objects, paths become text.

    Raises:
        ValueError: a number is not finite; JSON has no name for it.
    """
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=_to_basic_type) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all; see `json_text`."""
    text = json_text(value)
    partial = path.with_name(path.name + ".partial")
    if partial.is_symlink():  # it would be followed
        partial.unlink()
    partial.write_text(text, "utf-8")
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
