"""A step makes one output, a file or a folder: whole or not at all, with a manifest of what it was made from.

A step writes to `OUT.partial` and renames it in the end. The manifest is `manifest.json` in an output folder, and
`OUT.manifest.json` beside an output file. It holds the settings, the hashes of the inputs and the code that ran.
A step that is called again

- is finished if settings, inputs and code are those of the manifest;
- is finished with a warning if only the code differs; `remake` makes it anew;
- is made anew if settings or inputs differ;
- is refused if a published file has another size than the manifest says, or with `VERIFY` another hash;
- goes on where a killed run with the same settings, inputs and code stopped (`OUT.partial`, `.OUT.scratch`).

Only what a step made is ever deleted or replaced: the published files of an output, and folders that hold a manifest.
Other files of an output that is made anew are kept in `OUT.kept`.

Nothing here imports torch: a finished step is recognised in a fraction of a second.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from metakd import manifests, step_files
from metakd.errors import InputError
from metakd.fingerprint import code_fingerprint, describe_code
from metakd.manifests import MANIFEST, read_json, write_json
from metakd.paths import beside, output_path

log = logging.getLogger(__name__)
WAIT = 60.0  # seconds that a process waits for another run before it asks the others to go on waiting
VERIFY = False  # whether hashes of finished outputs are compared; `metakd.cli` sets it


class ReadOnlyError(InputError):
    """An output that is not finished lies where nothing can be written."""


class Processes:
    """The processes that make a step together; here a single one (see `metakd.training.runtime.Together`)."""

    main = True

    def wait(self) -> None:
        """Barrier."""

    def agree(self, answer: bool) -> bool:
        """The main process's answer, on all of them."""
        return answer


def code_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The code that a manifest names; empty where it names none."""
    code = manifest.get("code")
    return code if isinstance(code, dict) else {}


@dataclass
class Step:
    """One step of the pipeline: an output made from settings and inputs.

    Args:
        out: path of the output; links are followed.
        settings: what the output depends on beside its inputs.
        inputs: path or Hub name of each input, by role; content counts, not the path.
        resolved: all settings of the run, kept in the manifest for people; they do not make a step stale.
        file: whether the output is a file; else it is a folder.
        remake: whether an output that other code made is made anew.

    Raises:
        InputError: no step or another script made the output, or it is or holds an input; or an input is missing.
        ReadOnlyError: the output is not finished and cannot be written.
    """

    out: Path
    settings: dict[str, Any]
    inputs: Mapping[str, str | Path]
    resolved: dict[str, Any] = field(default_factory=dict)
    file: bool = False
    remake: bool = False

    def __post_init__(self) -> None:
        self.out = output_path(self.out)
        self.started = time.monotonic()
        self.made_by = Path(sys.argv[0]).name
        self._require_own_output()
        inputs = {role: self._input_hash(role) for role in self.inputs}
        self.key: dict[str, Any] = manifests.to_jsonable({"settings": self.settings, "inputs": inputs})
        self.code = code_fingerprint()
        if not self._current():  # a finished output may lie on a read-only disk
            self._require_writable()

    @property
    def manifest_path(self) -> Path:
        return self.out.with_name(f"{self.out.name}.{MANIFEST}") if self.file else self.out / MANIFEST

    @property
    def partial(self) -> Path:
        """Folder in which the output is written until it is whole."""
        return beside(self.out, ".partial")

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

    @property
    def _folder(self) -> Path:
        """The folder to which the names of published files are relative."""
        return self.out.parent if self.file else self.out

    def finished(self) -> bool:
        """Whether the output is whole and made from these settings and inputs; with `remake`, by this code too.

        Raises:
            InputError: a published file was changed afterwards, and `remake` is not set.
        """
        if not self._current():
            return False
        manifest = read_json(self.manifest_path)
        if damage := manifests.damage(self._folder, manifest, VERIFY):
            if not self.remake:
                raise InputError(
                    f"output {self.out} was changed after it was finished: {damage}. It is left as it is; restore the "
                    "file, or make the output anew with --remake true"
                )
            log.warning("%s was changed after it was finished: %s", self.out, damage)
            return False
        if self._changed_since(manifest) == "code":
            log.warning(
                "finished before: %s, but made by other code (%s; running now: %s); --remake true makes it anew",
                self.out, describe_code(code_of(manifest)), describe_code(self.code),
            )  # fmt: skip
        else:
            log.info("finished before: %s", self.out)
        return True

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
            finished = processes.agree(processes.main and self.finished())
            if not finished:  # a finished step needs no lock, which a read-only disk cannot hold
                while processes.agree(processes.main and not self._acquire(lock)):
                    pass  # all processes ask, since none may wait longer than its backend allows
                finished = processes.agree(processes.main and self.finished())
            if finished:
                yield None
                return
            if processes.main:
                self._prepare_partial()
            processes.wait()
            yield self.partial / self.out.name if self.file else self.partial
            processes.wait()
            if processes.main:
                self._publish()
            processes.wait()
        finally:
            lock.release()

    def remove_output(self) -> None:
        """Remove an output folder that only the next step needed."""
        self._discard_output()
        self._remove(self._discarded)
        self._lock_file.unlink(missing_ok=True)

    def _require_writable(self) -> None:
        nearest = next(path for path in self.out.parents if path.exists())
        if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
            raise ReadOnlyError(f"output {self.out}: {nearest} is not a folder that can be written to")

    def _require_own_output(self) -> None:
        """Refuse an output path that holds an input, or anything that this script did not make."""
        if not self.out.exists() and not self.manifest_path.exists():
            return
        if not self.manifest_path.is_file() and not self._is_empty_folder():
            raise InputError(
                f"output {self.out} exists, but has no {self.manifest_path.name}: no step made it, or it was copied "
                "in part. It is left as it is; choose another output path, or remove it yourself"
            )
        for role, path in self.inputs.items():
            place = Path(path)
            if place.exists() and self.out in (place.resolve(), *place.resolve().parents):
                raise InputError(f"output {self.out} is also the input {role!r}, or holds it; choose another path")
        manifest = read_json(self.manifest_path)
        if manifest and manifest.get("made_by") != self.made_by:  # a damaged one is empty
            raise InputError(
                f"output {self.out} was made by {manifest.get('made_by', 'another program')}; it is left as it is. "
                "Choose another output path"
            )

    def _is_empty_folder(self) -> bool:
        return not self.file and self.out.is_dir() and not any(self.out.iterdir())

    def _input_hash(self, role: str) -> str:
        path = self.inputs[role]
        if changed := manifests.changed_afterwards(Path(path), VERIFY):
            log.warning("NOTE: input %r: %s was changed after it was finished: %s", role, path, changed)
        try:
            return manifests.content_hash(path)
        except InputError as error:
            raise InputError(f"input {role!r}: {error}") from None

    def _current(self) -> bool:
        """Whether the output was made from these settings and inputs; with `remake`, by this code too."""
        changed = self._changed_since(read_json(self.manifest_path)) if self.out.exists() else "output"
        return not changed or (changed == "code" and not self.remake)

    def _changed_since(self, manifest: dict[str, Any]) -> str:
        """What has changed since a manifest was written: "settings or inputs", else "code", or "" for nothing."""
        if any(manifest.get(name) != value for name, value in self.key.items()):
            return "settings or inputs"
        same = all(code_of(manifest).get(name) == self.code[name] for name in ("source", "script"))
        return "" if same else "code"

    def _acquire(self, lock: FileLock) -> bool:
        """Whether the lock is ours; another run may hold it for hours, so this is asked again and again."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        if (
            self._lock_file.is_symlink()
            or self._lock_file.is_dir()
            or (self._lock_file.exists() and self._lock_file.stat().st_size)
        ):
            raise InputError(f"{self._lock_file} is in the way and no step made it; move it elsewhere")
        self._lock_file.touch()  # fails where a lock could be waited for without end
        for seconds in (0.1, WAIT):
            try:
                lock.acquire(timeout=seconds)
                return True
            except Timeout:
                if seconds < WAIT:
                    log.info("waiting for another run that makes %s", self.out)
        return False

    def _prepare_partial(self) -> None:
        """Make `partial` ready: as a killed run left it if this run can go on from there, else new."""
        for folder in (self.partial, self.scratch, self._discarded):
            step_files.require_own_folder(folder, self.made_by)
        begun = {**self.key, "code": self.code, "made_by": self.made_by}
        if not self._can_go_on():
            if self.out.exists() and not self._is_empty_folder():
                reason = self._changed_since(read_json(self.manifest_path)) or "files"
                log.info("%s changed, making anew: %s", reason, self.out)
            self._remove(self.scratch)
            self._remove(self._discarded)
            if self.partial.exists():
                self.partial.replace(self._discarded)
                self._remove(self._discarded)
            self.partial.mkdir()
            write_json(self.partial / MANIFEST, begun)
        self.scratch.mkdir(exist_ok=True)
        write_json(self.scratch / MANIFEST, begun)

    def _can_go_on(self) -> bool:
        """Whether `partial` was begun with the same settings, inputs and code."""
        if not (self.partial / MANIFEST).is_file():
            return False
        changed = self._changed_since(read_json(self.partial / MANIFEST))
        if changed:
            log.info("begun with other %s, starting afresh: %s", changed, self.partial)
        elif not self.file:
            log.info("going on from what an earlier run left: %s", self.partial)
        return not changed

    def _publish(self) -> None:
        """Write the manifest and rename what was written. A kill in between leaves an unfinished step, never a wrong
        one."""
        names = [self.out.name] if self.file else manifests.regular_files_in(self.partial)
        for name in names:
            step_files.follow_umask(self.partial / name)
        manifest = self._manifest({name: manifests.file_record(self.partial / name) for name in names})
        if self.file:
            self.out.unlink(missing_ok=True)
            write_json(self.manifest_path, manifest)
            (self.partial / self.out.name).replace(self.out)
            self._remove(self.partial)
        else:
            write_json(self.partial / MANIFEST, manifest)
            self._discard_output()
            self.partial.replace(self.out)
            self._remove(self._discarded)
        self._remove(self.scratch)

    def _manifest(self, files: dict[str, list[Any]]) -> dict[str, Any]:
        hashes = {name: record[-1] for name, record in files.items()}
        return {
            **self.key,
            "input_paths": {role: str(path) for role, path in self.inputs.items()},
            "code": self.code,
            "made_by": self.made_by,
            "content": hashes[self.out.name] if self.file else manifests.combined_hash(hashes.items()),
            "files": files,
            "resolved": self.resolved,
            **manifests.environment_info(),
            "seconds": round(time.monotonic() - self.started, 1),
            "peak_memory_mb": manifests.peak_memory(),
        }

    def _discard_output(self) -> None:
        """Rename the output folder before its removal, so that a kill never leaves half of it in its place."""
        if self.out.exists():
            step_files.keep_foreign_files(self.out, read_json(self.manifest_path))
            self._remove(self._discarded)
            self.out.replace(self._discarded)

    def _remove(self, folder: Path) -> None:
        step_files.remove_folder(folder, self.made_by)
