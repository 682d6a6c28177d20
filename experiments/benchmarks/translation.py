"""Training and translating, side by side with transformers' Seq2SeqTrainer and a plain `model.generate`.

python experiments/benchmarks/translation.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import empty_folder, machine_info, time_in_turns
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Seq2SeqTrainer, Seq2SeqTrainingArguments

from metakd.cli import run
from metakd.config import Training
from metakd.data.batches import plan_inference
from metakd.manifests import write_json
from metakd.models.loading import load_tokenizer
from metakd.training.inference import BATCH_SIZE
from metakd.training.loop import fit, rows_of_steps
from metakd.training.runtime import start
from metakd.translation.models import fresh_translator
from metakd.translation.rows import Batch, EncodedPairs, encode_pairs
from metakd.translation.search import hypotheses_of_batch
from metakd.translation.settings import FreshTranslator, TokenTerm, TranslationMethod
from metakd.translation.training import TranslationJob, loss_per_token

LEARNING_RATE, LONGEST = 1e-3, 40
SMOOTHED = TokenTerm("label", label_smoothing=0.1)
TRAINING = Training(max_tokens=1024, precision="fp32", log_with=[], checkpoint_seconds=1e9)


def main(
    tables: Path = Path("runs/translation_demo/tables"),
    work: Path = Path("runs/benchmarks/translation"),
    hidden_size: int = 128,
    layers: int = 2,
    rows: int = 1000,
    epochs: int = 1,
    rounds: int = 3,
    out: Path | None = None,
) -> None:
    """Print seconds and ratios; above 1 metakd is faster.

    Args:
        tables: folder with train.tsv and tokenizer, e.g. of data_prep/synthetic_translation.py.
        work: folder for what the trainers write; it is emptied.
        hidden_size, layers: of the model.
        rows: of training; a quarter of them is translated, in batches of like length.
        epochs: of each training.
        rounds: of each, in turns.
        out: JSON file of the figures.
    """
    tokenizer = load_tokenizer(str(tables / "tokenizer"))
    pairs = encode_pairs(tables / "train.tsv", tokenizer, 128)
    pairs = pairs.select(np.arange(min(rows, len(pairs))))
    accelerator, last_loss = start("fp32"), {}

    def timed(name: str, train: Callable[..., float]) -> float:
        model = fresh_translator(FreshTranslator(hidden_size, layers), tokenizer, 1)
        seconds = train(model, pairs, tokenizer, epochs, empty_folder(work / name))
        last_loss[name] = loss_per_token(model, pairs, accelerator)
        return seconds

    trainers = {"metakd": train_ours, "Seq2SeqTrainer": train_theirs}
    seconds = {"training": time_in_turns({name: partial(timed, name, one) for name, one in trainers.items()}, rounds)}
    some = pairs.select(np.arange(len(pairs) // 4))
    translator = fresh_translator(FreshTranslator(hidden_size, layers), tokenizer, 1).eval()
    for beam in (1, 5):
        jobs = {"metakd": our_translations, "generate": their_translations}
        seconds[f"beam {beam}"] = time_in_turns(
            {name: partial(translate, one, translator, tokenizer, some, beam) for name, one in jobs.items()}, rounds
        )
    ratios = {}
    for name, by_library in seconds.items():
        mine, theirs = (statistics.median(values) for values in by_library.values())
        ratios[name] = theirs / mine
        print(f"{name}: {mine:.2f} s, {list(by_library)[1]} {theirs:.2f} s, {ratios[name]:.2f}x")
    if out is not None:
        model = {"hidden_size": hidden_size, "layers": layers, "vocabulary": len(tokenizer)}
        write_json(out, {"machine": machine_info(), "model": model, "rows": len(pairs), "epochs": epochs,
                         "seconds": seconds, "ratios": ratios, "last_loss": last_loss})  # fmt: skip


def train_ours(
    model: PreTrainedModel, rows: EncodedPairs, tokenizer: PreTrainedTokenizerBase, epochs: int, folder: Path
) -> float:
    """Seconds of training in the loop of metakd."""
    accelerator, method = start("fp32"), TranslationMethod([SMOOTHED], epochs, LEARNING_RATE)
    job = TranslationJob(model, rows, rows.select(np.arange(1)), method, tokenizer, accelerator)
    started = time.perf_counter()
    fit(job, accelerator, epochs, LEARNING_RATE, TRAINING, folder)
    return time.perf_counter() - started


class GivenBatches(Seq2SeqTrainer):
    """The trainer on the batches of another: each item of its data is a whole batch."""

    def get_train_dataloader(self) -> Any:
        """The batches, one after the other."""
        return torch.utils.data.DataLoader(self.train_dataset, batch_size=None, shuffle=False)


def train_theirs(
    model: PreTrainedModel, rows: EncodedPairs, tokenizer: PreTrainedTokenizerBase, epochs: int, folder: Path
) -> float:
    """Seconds of training by Seq2SeqTrainer on the batches of metakd's first epoch, padded alike."""
    batches = []
    for step in rows_of_steps(rows.lengths, TRAINING, 0):
        batch = rows.batch(step)
        before = batch["target"].roll(1, dims=1)
        before[:, 0] = model.config.decoder_start_token_id
        labels = batch["target"].masked_fill(batch["target_mask"] == 0, -100)
        batches.append({
            "input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels,
            "decoder_input_ids": before,
        })  # fmt: skip
    arguments = Seq2SeqTrainingArguments(
        str(folder), num_train_epochs=epochs, per_device_train_batch_size=1, learning_rate=LEARNING_RATE,
        warmup_steps=TRAINING.warmup, weight_decay=TRAINING.weight_decay, save_strategy="no", report_to=[],
        label_smoothing_factor=SMOOTHED.label_smoothing, use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    trainer = GivenBatches(model, arguments, train_dataset=BatchList(batches))
    started = time.perf_counter()
    trainer.train()
    return time.perf_counter() - started


class BatchList(torch.utils.data.Dataset):
    """Batches that lie in memory."""

    def __init__(self, batches: list[dict[str, torch.Tensor]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return self.batches[number]


@torch.no_grad()
def translate(
    search: Callable[..., Any],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: EncodedPairs,
    beam: int,
) -> float:
    """Seconds of translating all rows in batches of like length."""
    batches = [rows.batch(chosen) for chosen in plan_inference(rows.lengths, BATCH_SIZE, 0, 1)]
    started = time.perf_counter()
    for batch in batches:
        search(model, tokenizer, batch, beam)
    return time.perf_counter() - started


def our_translations(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Batch, beam: int) -> None:
    """Texts, and the score of each token."""
    hypotheses_of_batch(model, tokenizer, batch, beam, 1, LONGEST)


def their_translations(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Batch, beam: int) -> None:
    """Texts alone."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    ids = model.generate(**inputs, num_beams=beam, early_stopping=beam > 1, max_new_tokens=LONGEST)
    tokenizer.batch_decode(ids, skip_special_tokens=True)


if __name__ == "__main__":
    run(main)
