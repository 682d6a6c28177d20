"""Steps leave a trail: an output appears whole or not at all, with a manifest of what it was made from.

A step writes to `OUT.partial` and renames; `manifest.json` lies in the output folder (beside an output
file: `OUT.manifest.json`) and holds the settings, versions and hashes of the inputs. The same step called
again finds it finished; with other settings or inputs it is stale and made anew; what a killed run left
in `OUT.partial` and `.OUT.scratch` is taken up where the manifest there agrees. Nothing here imports torch:
a finished step is recognised in milliseconds.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from metakd import manifests
from metakd.errors import InputError
from metakd.manifests import MANIFEST

log = logging.getLogger(__name__)


class Processes:
    """The processes that make a step together; here a single one (see `metakd.training.runtime.Together`)."""

    main = True

    def wait(self) -> None:
        """Barrier."""

    def agree(self, answer: bool) -> bool:
        """The main process's answer, on all of them."""
        return answer


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
        self.made_by = Path(sys.argv[0]).name
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
        for name, path in self.inputs.items():
            if self.out.exists() and Path(path).exists() and self.out.samefile(path):
                raise InputError(f"--out {self.out} is also the input {name!r}; choose another --out")
        maker = manifests.read(self.manifest_path).get("made_by", self.made_by) if self.out.exists() else self.made_by
        if maker != self.made_by:
            raise InputError(f"--out {self.out} was made by {maker}; it is left as it is. Choose another --out")
        self.key = {
            "config": manifests.plain(self.config),
            "inputs": {name: manifests.content_hash(path) for name, path in self.inputs.items()},
        }

    @property
    def manifest_path(self) -> Path:
        return self.out.with_name(self.out.name + "." + MANIFEST) if self.file else self.out / MANIFEST

    @property
    def partial(self) -> Path:
        return self.out.with_name(self.out.name + ".partial")

    @property
    def old(self) -> Path:
        return self.out.with_name(f".{self.out.name}.discarded")

    @property
    def scratch(self) -> Path:
        """For what a run needs to go on after a kill; removed when the output is there."""
        return self.out.with_name(f".{self.out.name}.scratch")

    def _empty(self) -> bool:
        return self.out.is_dir() and not any(self.out.iterdir())

    def _same(self, manifest: Path) -> bool:
        found = manifests.read(manifest)
        return all(found.get(name) == value for name, value in json.loads(json.dumps(self.key)).items())

    def finished(self) -> bool:
        """Whether the output is there, made with these settings from these inputs."""
        done = self.out.exists() and self._same(self.manifest_path)
        if done:
            log.info("finished before: %s", self.out)
        return done

    def remove(self) -> None:
        """Remove a folder that was wanted for a while only."""
        self._move_away(self.out)
        shutil.rmtree(self.old, ignore_errors=True)
        self._lock_file.unlink(missing_ok=True)

    @property
    def _lock_file(self) -> Path:
        return self.out.with_name(f".{self.out.name}.lock")

    @contextmanager
    def workspace(self, processes: Processes | None = None) -> Iterator[Path | None]:
        """The place to write to; when the block ends without an error it becomes the output.

        None if another run has finished the step in the meantime: two runs never write one output.

        Args:
            processes: that make the step together; the main one creates and renames the place.
        """
        processes = processes or Processes()
        lock = FileLock(self._lock_file)
        try:
            if processes.main:
                self._acquire(lock)
            if processes.agree(processes.main and self.finished()):
                yield None
                return
            if processes.main:
                self._prepare()
            processes.wait()
            yield self.partial
            processes.wait()
            if processes.main:
                self._publish()
            processes.wait()
        finally:
            lock.release()

    def _acquire(self, lock: FileLock) -> None:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0.1)
        except OSError as error:
            if not isinstance(error, Timeout):
                raise InputError(f"--out {self.out} cannot be written: {error}") from None
            log.info("waiting for another run that makes %s", self.out)
            lock.acquire()

    def _prepare(self) -> None:
        manifest = self.partial / MANIFEST
        begun = {manifest.with_name(f"{MANIFEST}.partial")}
        if self.partial.is_dir() and set(self.partial.iterdir()) - begun and not manifest.is_file():
            raise InputError(f"{self.partial} is in the way and was not made by this step; move it elsewhere")
        if self.partial.is_dir() and self._same(manifest):
            log.info("going on from what an earlier run left: %s", self.partial)
            self.scratch.mkdir(exist_ok=True)
            return
        if self.out.exists() and not self._empty():
            log.info("settings or inputs have changed, making anew: %s", self.out)
        shutil.rmtree(self.scratch, ignore_errors=True)
        if self.file:
            self.partial.unlink(missing_ok=True)
            return
        self._move_away(self.partial)
        shutil.rmtree(self.old, ignore_errors=True)
        self.partial.mkdir()
        self.scratch.mkdir()
        manifests.write_json(manifest, self.key)

    def _publish(self) -> None:
        whole = manifests.file_hash(self.partial) if self.file else manifests.folder_hash(self.partial)
        manifest = {
            **self.key,
            "made_by": self.made_by,
            "content": whole,
            "resolved": self.resolved,
            **manifests.circumstances(),
        }
        manifest |= {"seconds": round(time.monotonic() - self.started, 1), "peak_memory_mb": manifests.peak_memory()}
        if self.file:
            # A kill between any two of these leaves no output, and so a step that is not finished.
            self.out.unlink(missing_ok=True)
            manifests.write_json(self.manifest_path, manifest)
            self.partial.replace(self.out)
            return
        manifests.write_json(self.partial / MANIFEST, {**manifest, "files": manifests.file_times(self.partial)})
        self._move_away(self.out)
        self.partial.replace(self.out)
        shutil.rmtree(self.old, ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _move_away(self, folder: Path) -> None:
        """Rename before removal, so that a kill never leaves half of a folder in its place."""
        shutil.rmtree(self.old, ignore_errors=True)
        if folder.exists():
            folder.replace(self.old)
