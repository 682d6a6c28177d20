"""A step makes one output, a file or a folder: whole or not at all, with a manifest of what it was made from.

A step writes to `OUT.partial` and renames it in the end. The manifest is `manifest.json` in an output folder, and
`OUT.manifest.json` beside an output file. It holds the settings, the hashes of the inputs and the code that ran.
A step that is called again

- is finished if settings, inputs and code are those of the manifest;
- is finished with a warning if only the code differs; `remake` makes it anew;
- is made anew if settings or inputs differ;
- goes on where a killed run with the same settings, inputs and code stopped (`OUT.partial`, `.OUT.scratch`).

Nothing here imports torch: a finished step is recognised in a fraction of a second.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from metakd import manifests
from metakd.errors import InputError
from metakd.fingerprint import code_fingerprint, describe_code
from metakd.manifests import MANIFEST, read_json, write_json

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
    """One step of the pipeline: an output made from settings and inputs.

    Args:
        out: path of the output.
        settings: what the output depends on beside its inputs.
        inputs: path or Hub name of each input, by role; content counts, not the path.
        resolved: all settings of the run, kept in the manifest for people; they do not make a step stale.
        file: whether the output is a file; else it is a folder.
        remake: whether an output that other code made is made anew.

    Raises:
        InputError: the output cannot be written, no step or another script made it, or it is also an input; or an
            input is missing.
    """

    out: Path
    settings: dict[str, Any]
    inputs: Mapping[str, str | Path]
    resolved: dict[str, Any] = field(default_factory=dict)
    file: bool = False
    remake: bool = False

    def __post_init__(self) -> None:
        self.out = Path(self.out)
        self.started = time.monotonic()
        self.made_by = Path(sys.argv[0]).name
        self._require_writable()
        self._require_own_output()
        inputs = {role: self._input_hash(role) for role in self.inputs}
        self.key: dict[str, Any] = manifests.to_jsonable({"settings": self.settings, "inputs": inputs})
        self.code = code_fingerprint()

    @property
    def manifest_path(self) -> Path:
        return self.out.with_name(f"{self.out.name}.{MANIFEST}") if self.file else self.out / MANIFEST

    @property
    def partial(self) -> Path:
        """Where the output is written until it is whole."""
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def scratch(self) -> Path:
        """Folder for what a killed run needs to go on, e.g. checkpoints; removed when the output is whole."""
        return self.out.with_name(f".{self.out.name}.scratch")

    @property
    def _discarded(self) -> Path:
        return self.out.with_name(f".{self.out.name}.discarded")

    @property
    def _lock_file(self) -> Path:
        return self.out.with_name(f".{self.out.name}.lock")

    def finished(self) -> bool:
        """Whether the output is whole and made from these settings and inputs; with `remake`, by this code too."""
        if not self.out.exists():
            return False
        manifest = read_json(self.manifest_path)
        changed = self._changed_since(manifest)
        if changed == "code" and not self.remake:
            log.warning(
                "finished before: %s, but made by other code (%s; running now: %s); --remake true makes it anew",
                self.out, describe_code(manifest["code"]), describe_code(self.code),
            )  # fmt: skip
            return True
        if not changed:
            log.info("finished before: %s", self.out)
        return not changed

    @contextmanager
    def workspace(self, processes: Processes | None = None) -> Iterator[Path | None]:
        """The path to write to; it becomes the output when the block ends without an error.

        None if another run has finished the step in the meantime: two runs never write one output.

        Args:
            processes: those that make the step together; the main one creates and renames the path.
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
                self._prepare_partial()
            processes.wait()
            yield self.partial
            processes.wait()
            if processes.main:
                self._publish()
            processes.wait()
        finally:
            lock.release()

    def remove_output(self) -> None:
        """Remove an output folder that only the next step needed."""
        self._move_away(self.out)
        shutil.rmtree(self._discarded, ignore_errors=True)
        self._lock_file.unlink(missing_ok=True)

    def _require_writable(self) -> None:
        folder = self.out.parent if self.file else self.out
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
            raise InputError(f"output {self.out}: {nearest} is not a folder that can be written to")

    def _require_own_output(self) -> None:
        """Refuse an output path that holds an input, or anything that this script did not make."""
        if not self.out.exists():
            return
        if not self.manifest_path.is_file() and not self._is_empty_folder():
            raise InputError(
                f"output {self.out} exists, but has no {self.manifest_path.name}: no step made it, or it was copied "
                "in part. It is left as it is; choose another output path, or remove it yourself"
            )
        for role, path in self.inputs.items():
            if Path(path).exists() and self.out.samefile(path):
                raise InputError(f"output {self.out} is also the input {role!r}; choose another output path")
        made_by = read_json(self.manifest_path).get("made_by", self.made_by)
        if made_by != self.made_by:
            raise InputError(
                f"output {self.out} was made by {made_by}; it is left as it is. Choose another output path"
            )

    def _is_empty_folder(self) -> bool:
        return not self.file and self.out.is_dir() and not any(self.out.iterdir())

    def _input_hash(self, role: str) -> str:
        try:
            return manifests.content_hash(self.inputs[role])
        except InputError as error:
            raise InputError(f"input {role!r}: {error}") from None

    def _changed_since(self, manifest: dict[str, Any]) -> str:
        """What has changed since a manifest was written: "settings or inputs", else "code", or "" for nothing."""
        if any(manifest.get(name) != value for name, value in self.key.items()):
            return "settings or inputs"
        same = all(manifest["code"].get(name) == self.code[name] for name in ("source", "script"))
        return "" if same else "code"

    def _acquire(self, lock: FileLock) -> None:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0.1)
        except Timeout:
            log.info("waiting for another run that makes %s", self.out)
            lock.acquire()
        except OSError as error:
            raise InputError(f"output {self.out} cannot be written: {error}") from None

    def _prepare_partial(self) -> None:
        """Make `partial` ready: as a killed run left it if this run can go on from there, else new."""
        if self._can_go_on():
            self.scratch.mkdir(exist_ok=True)
            return
        if self.out.exists() and not self._is_empty_folder():
            log.info("%s changed, making anew: %s", self._changed_since(read_json(self.manifest_path)), self.out)
        shutil.rmtree(self.scratch, ignore_errors=True)
        if self.file:
            self.partial.unlink(missing_ok=True)
            return
        self._move_away(self.partial)
        shutil.rmtree(self._discarded, ignore_errors=True)
        self.partial.mkdir()
        self.scratch.mkdir()
        write_json(self.partial / MANIFEST, {**self.key, "code": self.code})

    def _can_go_on(self) -> bool:
        """Whether `partial` was begun with the same settings, inputs and code.

        Raises:
            InputError: it is a folder that no step began.
        """
        if not self.partial.is_dir():
            return False
        names = {path.name for path in self.partial.iterdir()}
        if MANIFEST not in names:
            if names - {f"{MANIFEST}.partial"}:  # a kill during the first write leaves this file
                raise InputError(f"{self.partial} is in the way and no step made it; move it elsewhere")
            return False
        changed = self._changed_since(read_json(self.partial / MANIFEST))
        if changed:
            log.info("begun with other %s, starting afresh: %s", changed, self.partial)
        else:
            log.info("going on from what an earlier run left: %s", self.partial)
        return not changed

    def _publish(self) -> None:
        """Write the manifest and rename `partial`. A kill in between leaves an unfinished step, never a wrong one."""
        manifest = self._manifest()
        if self.file:
            self.out.unlink(missing_ok=True)
            write_json(self.manifest_path, manifest)
            self.partial.replace(self.out)
            return
        write_json(self.partial / MANIFEST, {**manifest, "files": manifests.file_times(self.partial)})
        self._move_away(self.out)
        self.partial.replace(self.out)
        shutil.rmtree(self._discarded, ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _manifest(self) -> dict[str, Any]:
        return {
            **self.key,
            "input_paths": {role: str(path) for role, path in self.inputs.items()},
            "code": self.code,
            "made_by": self.made_by,
            "content": manifests.file_hash(self.partial) if self.file else manifests.folder_hash(self.partial),
            "resolved": self.resolved,
            **manifests.environment_info(),
            "seconds": round(time.monotonic() - self.started, 1),
            "peak_memory_mb": manifests.peak_memory(),
        }

    def _move_away(self, folder: Path) -> None:
        """Rename a folder before its removal, so that a kill never leaves half of it in its place."""
        shutil.rmtree(self._discarded, ignore_errors=True)
        if folder.exists():
            folder.replace(self._discarded)
