"""Speed and memory of training as tables grow, and over several processes and "nodes"."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import WORDS, empty_folder, machine_info, write_random_rows
from tabulate import tabulate

from metakd.cli import run
from metakd.manifests import MANIFEST, read_json, write_json

TASK = """\
train: {train}
dev: {dev}
test: {dev}
teacher: {encoder}
student: {{layers: 1}}
max_length: 64
training: {{precision: fp32, log_with: []}}
"""
METHOD = """\
teacher: {kind: mix, epochs: 1, learning_rate: 5.0e-5}
stages: # not run here
  - {name: prediction, terms: [{feature: logits, loss: kl}], epochs: 1, learning_rate: 5.0e-5}
"""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def main(
    out: Path, rows: int = 1000, growth: tuple[int, ...] = (1, 10, 100), work: Path = Path("runs/benchmarks/scale")
) -> None:
    """Train a tiny teacher on ever more rows, then on the smallest table with several processes.

    Memory is the peak of the training script. The teacher has no dropout, so several processes compute the losses of
    one.

    Args:
        out: JSON file.
        rows: training rows; each factor of `growth` multiplies them.
        growth: factors, as a list '[1, 10, 100]', smallest first.
        work: folder for tables and models.
    """
    empty_folder(work)
    make_encoder(work / "encoder")
    write_random_rows(work / "dev.tsv", "short", 64, ("one", "two"))
    (work / "method.yaml").write_text(METHOD)
    by_rows: list[dict[str, Any]] = []
    for count in (rows * factor for factor in growth):
        by_rows.append({"rows": count, **train(make_task(work, count), work / f"teacher{count}", count)})
    smallest = by_rows[0]["rows"]
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    node = [*torchrun, "--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d", "--rdzv_id=scale",
            f"--rdzv_endpoint=localhost:{free_port()}"]  # fmt: skip
    launchers = {
        "2 processes": [[*torchrun, "--standalone", "--nproc_per_node=2"]],
        "2 nodes by rendezvous on loopback": [node, node],
    }
    by_launch: dict[str, dict[str, Any]] = {"1 process": by_rows[0]}
    for number, (title, commands) in enumerate(launchers.items()):
        result = train(work / f"task{smallest}.yaml", work / f"launch{number}", smallest, commands)
        pairs = zip(result["losses"], by_rows[0]["losses"], strict=True)
        by_launch[title] = {**result, "largest_difference_of_a_loss": max(abs(a - b) for a, b in pairs)}
    write_json(out, {"growth": by_rows, "processes": by_launch, "machine": machine_info()})
    columns = ["rows_per_second", "peak_memory_mb", "largest_difference_of_a_loss"]
    lines = [[f"{result['rows']:,} rows", *map(result.get, columns)] for result in by_rows]
    lines += [[title, *map(result.get, columns)] for title, result in by_launch.items()]
    print(tabulate(lines, ["", *(name.replace("_", " ") for name in columns)], floatfmt=("", ".0f", "", ".1e")))


def make_encoder(folder: Path) -> None:
    """Save a random BERT of 2 layers and 64 dimensions, with a tokenizer of the benchmark's words."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*SPECIAL, *WORDS])}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64,
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS) + len(SPECIAL), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=256, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=64,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)


def make_task(work: Path, rows: int) -> Path:
    """Write a training table of so many rows and its task file; returns the task file."""
    train = work / f"train{rows}.tsv"
    write_random_rows(train, "short", rows, ("one", "two"))
    path = work / f"task{rows}.yaml"
    path.write_text(TASK.format(train=train, dev=work / "dev.tsv", encoder=work / "encoder"))
    return path


def train(task: Path, out: Path, rows: int, launchers: list[list[str]] | None = None) -> dict[str, Any]:
    """Train the teacher for an epoch; returns speed, memory and the loss of each step.

    Args:
        launchers: start of each command line, all run at once; by default python alone.
    """
    launchers = launchers or [[sys.executable]]
    script = str(Path(__file__).parents[1] / "train_teacher.py")
    command = [script, "--task", str(task), "--method", str(task.with_name("method.yaml")), "--out", str(out),
               "--allow_weak", "true"]  # fmt: skip
    # Processes under one torchrun share the cores; nodes on one machine know nothing of each other.
    threads = str(os.cpu_count() or 1) if launchers == [[sys.executable]] else "1"
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    begun = time.perf_counter()
    processes = [subprocess.Popen([*launcher, *command], env=environment, stderr=subprocess.PIPE, text=True)
                 for launcher in launchers]  # fmt: skip
    for process in processes:
        _, errors = process.communicate()
        if process.returncode:
            for other in processes:  # which would wait for it
                other.kill()
            raise RuntimeError(f"{command} failed:\n{errors[-4000:]}")
    wall = time.perf_counter() - begun
    manifest, history = read_json(out / MANIFEST), read_json(out / "history.json")
    return {"rows_per_second": rows / manifest["seconds"], "seconds": manifest["seconds"], "wall": wall,
            "peak_memory_mb": manifest["peak_memory_mb"], "losses": history["losses"]}  # fmt: skip


def free_port() -> int:
    """A port that no process listens on."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    run(main)
