"""What an evaluation records of a model beside its scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def weight_bytes(folder: Path) -> int:
    """Size in bytes of the weight files in a model's folder."""
    return sum(file.stat().st_size for file in folder.glob("model*.safetensors"))
