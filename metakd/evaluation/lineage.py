"""The steps behind an output: the step that made it, the steps that made its inputs, and the code they ran with."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from metakd.errors import InputError
from metakd.evaluation.document import Block, titled_list
from metakd.fingerprint import describe_code
from metakd.manifests import MANIFEST, changed_afterwards, find_manifest, read_json

Step = dict[str, Any]  # name, made_by (the script), seconds, peak_memory_mb, code


def read_published(path: Path) -> dict[str, Any]:
    """The JSON object in a file that a step published; empty if there is no such file.

    Raises:
        InputError: the file was changed afterwards, or holds no JSON object.
    """
    if not path.is_file():
        return {}
    content = read_json(path)
    if not content or changed_afterwards(path, verify=True):
        raise InputError(f"{path} was changed after it was finished, or is damaged; make it again")
    return content


def steps_behind(outputs: Iterable[str | Path], root: Path) -> list[Step]:
    """The steps that made these outputs and everything those were made from, in the order in which they ended.

    Inputs that no step made (a user's own table, a pretrained model) have no step.

    Args:
        root: folder that the names of the steps are relative to.
    """
    manifests: dict[Path, dict[str, Any]] = {}
    unvisited = [Path(output) for output in outputs]
    while unvisited:
        path = find_manifest(unvisited.pop().resolve())
        if path is not None and path not in manifests:
            manifests[path] = read_json(path)
            unvisited += map(Path, manifests[path].get("input_paths", {}).values())
    steps = []
    for path in sorted(manifests, key=lambda path: path.stat().st_mtime_ns):
        output = path.parent if path.name == MANIFEST else path.with_name(path.name.removesuffix(f".{MANIFEST}"))
        record = {name: manifests[path].get(name) for name in ("made_by", "seconds", "peak_memory_mb", "code")}
        steps.append({"name": os.path.relpath(output, root.resolve()), **record})
    return steps


def code_blocks(steps: Sequence[Step]) -> list[Block]:
    """The code that made all steps; or a warning with the code of each step, if they were made by different code.

    Two commits with equal sources are the same code.
    """
    codes = [step["code"] or {} for step in steps]  # a manifest of an early version has no code
    scripts: dict[str, set[str | None]] = defaultdict(set)
    for step, code in zip(steps, codes, strict=True):
        scripts[step["made_by"]].add(code.get("script"))
    descriptions = [describe_code(code) for code in codes]
    if len({code.get("source") for code in codes}) == 1 and all(len(hashes) == 1 for hashes in scripts.values()):
        return [f"Code: {descriptions[-1]}."]
    names = [step["name"] for step in steps]
    return titled_list("WARNING: different code made the steps:", zip(names, descriptions, strict=True))
