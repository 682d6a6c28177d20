"""Speed and memory as tables grow, over processes and over "nodes"."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timing import generated, machine

from metakd.cli import run
from metakd.manifests import MANIFEST, write_json

TASK = "train: {0}/{1}.tsv\ndev: {0}/dev.tsv\ntest: {0}/dev.tsv\nteacher: {2}\nstudent: {{layers: 1}}\nmax_length: 64\n"


def main(out: Path, rows: int = 1000, growth: str = "1,10,100", work: Path = Path("runs/benchmarks/scale")) -> None:
    """Train a tiny random teacher on ever more rows, then on the fewest by several processes.

    Memory is what the training script had at most. Losses of several processes are those of one (there is no dropout).

    Args:
        out: JSON file.
        rows: of the smallest table.
        growth: its multiples, separated by commas.
        work: folder for tables and models.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tiny_encoder(work / "encoder")
    generated(work / "dev.tsv", "short", 64)
    factors = [int(part) for part in growth.split(",")]
    found: list[dict[str, Any]] = []
    for factor in factors:
        name = f"train{factor}"
        generated(work / f"{name}.tsv", "short", rows * factor)
        found.append({"rows": rows * factor, **train(work, name, name, [sys.executable])})
        print(f"{rows * factor:>9} rows: {found[-1]['rows_per_second']:.0f} rows/s, {found[-1]['peak_memory_mb']} MB")
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    pair = [[*torchrun, "--standalone", "--nproc_per_node", "2"]]
    port = free_port()
    node = [*torchrun, "--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_id", "scale",
            "--rdzv_endpoint", f"localhost:{port}"]  # fmt: skip
    ways: dict[str, tuple[list[list[str]], list[str]]] = {
        "2 processes": (pair, []),
        "2 processes, sharded (FSDP)": (pair, ["--task.training.sharded", "true"]),
        "2 nodes by rendezvous on loopback": ([node, node], []),
    }
    several: dict[str, Any] = {"1 process": found[0]}
    for number, (way, (launchers, options)) in enumerate(ways.items()):
        several[way] = train(work, f"train{factors[0]}", f"several{number}", *launchers, options=options)
        difference = max(abs(a - b) for a, b in zip(several[way]["losses"], found[0]["losses"], strict=True))
        several[way]["largest_difference_of_a_loss"] = difference
        print(f"{way}: {several[way]['rows_per_second']:.0f} rows/s, losses differ by {difference:.1e} at most")
    write_json(out, {"growth": found, "processes": several, "machine": machine()})


def tiny_encoder(folder: Path) -> None:
    """A random BERT of 2 layers and 64 dimensions with a tokenizer of the benchmark's words."""
    import torch
    import transformers
    from timing import WORDS
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*special, *WORDS])}, "[UNK]"))
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
        vocab_size=len(WORDS) + 5, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=64,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)


def train(work: Path, table: str, name: str, *launchers: list[str], options: Sequence[str] = ()) -> dict[str, Any]:
    """Train the teacher for an epoch by each launcher at once; what they have written is one result."""
    task = work / f"{table}.yaml"
    task.write_text(TASK.format(work, table, work / "encoder"))
    script = str(Path(__file__).parents[1] / "train_teacher.py")
    command = [script, "--task", str(task), "--task.epochs", "{teacher: 1}", "--out", str(work / name),
               "--task.training.precision", "fp32", "--allow_weak", "true", *options]  # fmt: skip
    alone = len(launchers[0]) == 1  # torchrun's processes share the cores by themselves, nodes on one machine do not
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count() or 1) if alone else "1"}
    begun = time.perf_counter()
    running = [subprocess.Popen([*launcher, *command], env=environment, stderr=subprocess.PIPE, text=True)
               for launcher in launchers]  # fmt: skip
    for process in running:
        _, errors = process.communicate()
        if process.returncode:
            for other in running:  # which would wait for it
                other.kill()
            raise RuntimeError(f"{command} failed:\n{errors[-4000:]}")
    wall = time.perf_counter() - begun
    manifest = json.loads((work / name / MANIFEST).read_text())
    history = json.loads((work / name / "history.json").read_text())
    count = sum(1 for _ in (work / f"{table}.tsv").open()) - 1
    losses = history["losses"]
    return {"rows_per_second": count / manifest["seconds"], "seconds": manifest["seconds"], "wall": wall,
            "peak_memory_mb": manifest["peak_memory_mb"], "losses": losses}  # fmt: skip


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    run(main)
