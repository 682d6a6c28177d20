"""The machine that a figure was measured on. Nothing here imports torch."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# Of x86 processors: what decides how fast, and with which rounding, they multiply matrices of bf16 and 8-bit numbers.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def machine_info(*packages: str) -> dict[str, Any]:
    """Processor, cores, the flags of `FLAGS` that it has, and the versions of packages (None: not installed)."""
    name, flags, cpu_info = platform.machine(), set(), Path("/proc/cpuinfo")
    if cpu_info.is_file():
        lines = [line.partition(":") for line in cpu_info.read_text().splitlines()]
        values = {key.strip(): value.strip() for key, _, value in lines}
        name, flags = values.get("model name", name), set(values.get("flags", "").split())
    return {
        "processor": name, "cores": os.cpu_count(), "flags": [flag for flag in FLAGS if flag in flags],
        **{package: installed_version(package) for package in packages},
    }  # fmt: skip


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
