"""Names from files become paths here, and nowhere else."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

from metakd.errors import InputError
from metakd.manifests import to_jsonable

# A plain name is the same on every file system: without letters that differ in case or form alone, and without dots,
# which would let it meet what steps write beside it (NAME.partial, NAME.json). No plain name looks like a hashed one.
PLAIN = re.compile(r"(?!.*-[0-9a-f]{16}$)[a-z0-9_][a-z0-9_-]{0,99}")
RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")
LONGEST_NAME = 220  # bytes of an output's name: a file system allows 255, and steps add e.g. ".manifest.json.partial"


def folder_name(name: str) -> str:
    """A file-system name for a domain, stage or run: the name itself if it is plain, else a plain one with a hash.

    Different names have different file-system names, also where a file system does not tell letters apart.
    """
    if PLAIN.fullmatch(name) and not RESERVED.fullmatch(name):
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return (re.sub(r"[^A-Za-z0-9_]+", "_", name)[:40] or "_") + "-" + digest


def settings_key(settings: Any) -> str:
    """Eight hexadecimal digits that stand for settings: equal settings share a folder."""
    text = json.dumps(to_jsonable(settings), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def output_path(out: str | Path) -> Path:
    """The absolute path of an output. Links are followed, so that an output is replaced where it lies.

    Raises:
        InputError: the path is the current folder or holds it, is a loop of links, or has a very long name.
    """
    try:
        place = Path(out).expanduser().resolve()
        current = Path.cwd()
    except (OSError, RuntimeError) as error:  # Python 3.10 to 3.12 raise RuntimeError for a loop
        raise InputError(f"output {out}: {error}; choose another path") from None
    if place == current or place in current.parents:
        raise InputError(f"output {out} is the current folder or holds it; name a new folder or file")
    if len(os.fsencode(place.name)) > LONGEST_NAME:
        raise InputError(f"output {out}: its name has more than {LONGEST_NAME} bytes; choose a shorter one")
    return place


def kept_place(path: Path) -> Path:
    """Where what lies at a path is kept when something else takes its place: PATH.kept, or .kept2 and so on."""
    suffixes = (".kept" if number == 1 else f".kept{number}" for number in itertools.count(1))
    return next(place for suffix in suffixes if not os.path.lexists(place := path.with_name(path.name + suffix)))


def beside(path: str | Path, suffix: str) -> Path:
    """A path next to a file or folder, named after it: its resolved path with a suffix, e.g. ".logits"."""
    place = Path(path).resolve()
    return place.with_name(place.name + suffix) if place.name else place / suffix
