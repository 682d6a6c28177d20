"""What a step may delete and move: folders that it began, and files that it published. All else is left or kept."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metakd import manifests
from metakd.errors import InputError, name_list
from metakd.manifests import MANIFEST, read_json
from metakd.paths import kept_place

log = logging.getLogger(__name__)


def require_own_folder(folder: Path, made_by: str) -> None:
    """Refuse to work in, or remove, anything but a folder that a script began; an empty one will do too.

    Args:
        folder: may be missing.
        made_by: name of the script.
    """
    if not os.path.lexists(folder):
        return
    own = folder.is_dir() and not folder.is_symlink()
    if own:
        names = {path.name for path in folder.iterdir()} - {f"{MANIFEST}.partial"}  # a kill may leave this file
        manifest = read_json(folder / MANIFEST)
        begun = {"settings", "inputs", "code"} <= manifest.keys() and manifest.get("made_by", made_by) == made_by
        own = begun or not names
    if not own:
        raise InputError(f"{folder} is in the way and no step made it; move it elsewhere")


def remove_folder(folder: Path, made_by: str) -> None:
    """Remove a folder that a script began. Its manifest goes last, so that a kill leaves a folder known as such.

    What the system will not remove yet, e.g. a file that is open on a network disk, is left.
    """
    if not folder.exists():
        return
    require_own_folder(folder, made_by)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != MANIFEST:
            path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def keep_foreign_files(out: Path, manifest: Mapping[str, Any]) -> None:
    """Move what was not published in an output folder to a new folder beside it, and say so."""
    foreign = manifests.foreign_files(out, manifest)
    if "made_by" not in manifest and (out / MANIFEST).is_file():  # damaged, or another program's
        foreign.append(MANIFEST)
    if not foreign:
        return
    kept = kept_place(out.resolve())
    for name in foreign:
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).rename(kept / name)
    log.warning("%s held files that no step had made there; they are now in %s: %s", out, kept, name_list(foreign))


def follow_umask(path: Path) -> None:
    """Give a file the permissions of any new file; some libraries write files that only their owner can read."""
    mask = os.umask(0o077)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
