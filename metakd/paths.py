"""Names from files become paths here, and nowhere else."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from metakd.manifests import to_jsonable


def folder_name(name: str) -> str:
    """A file-system name for a domain or stage: the name itself if it is plain, else a plain one with a hash."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    return re.sub(r"[^A-Za-z0-9_]+", "_", name)[:40] + "-" + digest


def settings_key(settings: Any) -> str:
    """Eight hexadecimal digits that stand for settings: equal settings share a folder."""
    text = json.dumps(to_jsonable(settings), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
