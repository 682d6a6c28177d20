"""What an evaluation records of a model beside its scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from safetensors import safe_open

from metakd.manifests import find_manifest, read_json
from metakd.models.model_io import load_info


def model_facts(folder: Path) -> dict[str, Any]:
    """Path and size of a model; if this project trained it, also what it started from, notes, and the code that ran."""
    facts: dict[str, Any] = {"path": str(folder), "size_bytes": weight_bytes(folder)}
    info = load_info(folder)
    if info is not None:
        facts |= {"starts_from": info.starts_from, "notes": info.notes}
    manifest_path = find_manifest(folder)
    if manifest_path is not None:
        facts["code"] = read_json(manifest_path).get("code")
    return facts


def parameter_count(folder: Path) -> int:
    """Number of weights in the weight files of a model's folder."""
    count = 0
    for file in folder.glob("model*.safetensors"):
        with safe_open(file, "numpy") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return count


def weight_bytes(folder: Path) -> int:
    """Size in bytes of the weight files in a model's folder."""
    return sum(file.stat().st_size for file in folder.glob("model*.safetensors"))
