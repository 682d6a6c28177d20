"""What code and which pretrained models a result comes from. Nothing here imports torch.

The hashes of package and running script cover their syntax trees. Comments, docstrings and formatting do not count: a
comment edited at night must not cost a day of results. Everything else counts: results of a changed loss must not pass
as results of the old one.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import metakd
from metakd.errors import InputError

PACKAGE = Path(__file__).parent
GIT_TIMEOUT = 5  # seconds
HAVE_DOCSTRINGS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def code_fingerprint() -> dict[str, Any]:
    """The running code, as manifests keep it.

    Returns:
        version: of the package.
        commit: git commit of the package's checkout; None without git, or where the package is installed elsewhere.
        clean: whether all tracked files are as in the commit; None without a commit.
        source: hash of the package (see above), 16 hexadecimal digits. Python's syntax trees differ between its
            versions, and so do the hashes.
        script: the same of the running script; None if no script runs.
    """
    commit, clean = git_commit(PACKAGE)
    script = Path(sys.argv[0])
    script_hash = source_hash(script) if script.suffix == ".py" and script.is_file() else None
    source = source_hash(PACKAGE)
    return {"version": metakd.__version__, "commit": commit, "clean": clean, "source": source, "script": script_hash}


def describe_code(code: dict[str, Any]) -> str:
    """A code fingerprint in words, e.g. "metakd 0.1.0, commit 1a2b3c4d5e with changes, source 0123456789abcdef"."""
    if not code:  # a manifest of an early version, or a damaged one
        return "unknown code"
    commit = f"commit {code['commit'][:10]}" if code["commit"] else "no commit"
    changes = " with changes" if code["clean"] is False else ""
    return f"metakd {code['version']}, {commit}{changes}, source {code['source']}"


def source_hash(code: Path) -> str:
    """Hash of a script, or of all modules in a package's folder by their paths within it."""
    digest = hashlib.sha256()
    for file in [code] if code.is_file() else sorted(code.rglob("*.py")):
        name = file.relative_to(code).as_posix()
        digest.update(f"{name}\n{syntax_tree(file.read_bytes())}\n".encode())
    return digest.hexdigest()[:16]


def syntax_tree(source: bytes) -> str:
    """The syntax tree of Python source as text, without docstrings and line numbers."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, HAVE_DOCSTRINGS) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)


def git_commit(package: Path) -> tuple[str | None, bool | None]:
    """The commit that a package folder is checked out from, and whether all tracked files are as in it.

    (None, None) without git, and for a package that its surrounding repository does not track, e.g. in a virtual
    environment.
    """
    try:
        commit = run_git(package, "rev-parse", "HEAD", "HEAD:./__init__.py").split()[0]
        changes = run_git(package, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, not changes


def run_git(folder: Path, *arguments: str) -> str:
    """What git prints; without optional locks, so that no other git command on the repository has to wait."""
    command = ["git", "-C", str(folder), "--no-optional-locks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT, check=True).stdout


@functools.cache  # a run uses one revision from its first step to its last
def model_revision(name: str) -> str:
    """The revision of a Hugging Face Hub model that loading `name` uses, as "hub:NAME@COMMIT".

    Without a connection it is the revision in the local cache.

    Raises:
        InputError: neither the Hub nor the cache has the model.
    """
    from huggingface_hub import hf_hub_download  # slow to import, and rarely needed

    try:
        config = hf_hub_download(name, "config.json")
    except (OSError, ValueError) as error:  # every error of the Hub is one of these two
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{name}: no such folder, and no model of this name on the Hugging Face Hub or in its local cache "
            f"({reason}); correct the name, or download the model while online: hf download {name}"
        ) from None
    return f"hub:{name}@{Path(config).parent.name}"  # the file lies in snapshots/COMMIT/
