"""Steps leave a trail: an output appears whole or not at all, with a manifest of what it was made from.

A step writes to `OUT.partial` and renames; `manifest.json` lies in the output folder (beside an output
file: `OUT.manifest.json`) and holds the settings, versions and hashes of the inputs. The same step called
again finds it finished; with other settings or inputs it is stale and made anew; what a killed run left
in `OUT.partial` is taken up where the manifest there agrees. Nothing here imports torch: a finished step
is recognised in milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock

import metakd
from metakd.errors import InputError

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "numpy", "scikit-learn")
HASHED_MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content_hash(path: str | Path) -> str:
    """Hash of an input: a file's bytes, or what a model or step folder holds; a Hub name stands for itself."""
    path = Path(path)
    if path.is_file():
        return file_hash(path)
    if not path.is_dir():
        return f"name:{path}"
    manifest = path / MANIFEST
    if manifest.is_file():  # the step that made the folder has hashed its content
        return json.loads(manifest.read_text("utf-8"))["content"]
    return folder_hash(path)


def folder_hash(path: Path, patterns: tuple[str, ...] = HASHED_MODEL_FILES) -> str:
    """One hash over names and bytes of the files that match, the manifest left out."""
    digest = hashlib.sha256()
    files = {file for pattern in patterns for file in path.rglob(pattern) if file.name != MANIFEST}
    for file in sorted(files):
        digest.update(f"{file.relative_to(path)} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def plain(value: Any) -> Any:
    """Settings as JSON holds them."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(item) for key, item in asdict(value).items()}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def write_json(path: Path, value: Any) -> None:
    """Write whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(plain(value), indent=1, ensure_ascii=False) + "\n", "utf-8")
    temporary.replace(path)


def peak_memory() -> int:
    """Most memory that this process has held so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 1_000_000


def package_versions() -> dict[str, str]:
    found = {"metakd": metakd.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # data preparation runs without torch
            continue
    return found


@dataclass
class Step:
    """One step of the pipeline: an output (file or folder) made from settings and inputs.

    Args:
        out: the output; a name with a suffix that `file` tells apart is a file.
        config: settings that the output depends on.
        inputs: what it is made from; each is hashed.
        resolved: all settings as given, for people; they do not make a step stale.
        file: whether the output is one file.
    """

    out: Path
    config: dict[str, Any]
    inputs: dict[str, str | Path]
    resolved: dict[str, Any] = field(default_factory=dict)
    file: bool = False

    def __post_init__(self) -> None:
        self.out, self.started = Path(self.out), time.monotonic()
        for parent in (self.out, *self.out.parents):
            if parent.exists():
                usable = parent.is_dir() and os.access(parent, os.W_OK)
                if not usable and not (self.file and parent == self.out):
                    raise InputError(f"--out {self.out}: {parent} is not a folder that can be written to")
                break
        if self.out.exists() and not self.manifest_path.is_file() and not self._empty():
            raise InputError(
                f"--out {self.out} exists, but has no {self.manifest_path.name}: this step did not make it, or "
                "it was copied in part; it is left as it is. Choose another --out, or remove it yourself"
            )
        self.key = {
            "config": plain(self.config),
            "inputs": {name: content_hash(path) for name, path in self.inputs.items()},
        }

    @property
    def manifest_path(self) -> Path:
        return self.out.with_name(self.out.name + "." + MANIFEST) if self.file else self.out / MANIFEST

    @property
    def partial(self) -> Path:
        return self.out.with_name(self.out.name + ".partial")

    def _empty(self) -> bool:
        return self.out.is_dir() and not any(self.out.iterdir())

    def _same(self, manifest: Path) -> bool:
        try:
            found = json.loads(manifest.read_text("utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return all(found.get(name) == value for name, value in json.loads(json.dumps(self.key)).items())

    def finished(self) -> bool:
        """Whether the output is there, made with these settings from these inputs."""
        done = self.out.exists() and self._same(self.manifest_path)
        if done:
            log.info("finished before: %s", self.out)
        elif self.out.exists():
            log.info("settings or inputs have changed, making anew: %s", self.out)
        return done

    @contextmanager
    def workspace(self, main: bool = True, wait_for_everyone: Callable[[], None] = lambda: None) -> Iterator[Path]:
        """The place to write to; when the block ends without an error it becomes the output.

        Args:
            main: whether this process makes and renames the place (one of several does).
            wait_for_everyone: barrier over the processes.
        """
        lock = FileLock(self.out.with_name(f".{self.out.name}.lock"))
        if main:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            self._prepare()
        wait_for_everyone()
        try:
            yield self.partial
            wait_for_everyone()
            if main:
                self._publish()
        finally:
            if main:
                lock.release()
        wait_for_everyone()

    def _prepare(self) -> None:
        key_file = self.partial / MANIFEST
        if self.partial.is_dir() and not self._same(key_file):
            shutil.rmtree(self.partial)
        if self.file:
            self.partial.unlink(missing_ok=True)
        elif not self.partial.exists():
            self.partial.mkdir()
            write_json(key_file, self.key)
        else:
            log.info("going on from what an earlier run left: %s", self.partial)

    def _publish(self) -> None:
        content = file_hash(self.partial) if self.file else folder_hash(self.partial, ("*",))
        manifest = {**self.key, "content": content, "resolved": self.resolved, "versions": package_versions()}
        manifest |= {"seconds": round(time.monotonic() - self.started, 1), "peak_memory_mb": peak_memory()}
        if self.file:
            self.manifest_path.unlink(missing_ok=True)
            self.partial.replace(self.out)
            write_json(self.manifest_path, manifest)
            return
        write_json(self.partial / MANIFEST, manifest)
        old = self.out.with_name(self.out.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        if self.out.exists():
            self.out.replace(old)
        self.partial.replace(self.out)
        shutil.rmtree(old, ignore_errors=True)
