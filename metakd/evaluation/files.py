"""Write the files of a report; what a person wrote or changed in their place is kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from metakd.errors import InputError
from metakd.manifests import file_hash, read_json, write_json
from metakd.paths import kept_place, output_path

log = logging.getLogger(__name__)
RECORD = ".report-files.json"  # the hash of each file that was written to a folder


def write_files(folder: Path, contents: Mapping[str, str]) -> None:
    """Write texts to files of a folder. A file there that is not what was last written is renamed to NAME.kept.

    Raises:
        InputError: the folder's path, or that of a file, is something else.
    """
    place = output_path(folder / "x").parent  # any folder will do, the current one too
    if place.exists() and not place.is_dir():
        raise InputError(f"{folder} is not a folder; choose another path")
    place.mkdir(parents=True, exist_ok=True)
    record = read_json(place / RECORD)
    for name, text in contents.items():
        path = place / name
        if path.is_dir():
            raise InputError(f"{folder / name} is a folder; choose another path")
        if path.is_symlink() or (path.is_file() and file_hash(path) != record.get(name)):
            kept = kept_place(path)
            path.rename(kept)
            log.warning("%s was not written here, or was changed since; it is now %s", path, kept)
        path.write_text(text, "utf-8", errors="replace")
        record[name] = file_hash(path)
        write_json(place / RECORD, record)
