"""A pass over rows without gradients: shared by embeddings, teacher logits and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from metakd.data.batches import plan_inference
from metakd.data.encoding import Batch, EncodedRows, encode, load_tokenizer
from metakd.data.labels import Labels
from metakd.data.row_store import RowStore, create
from metakd.data.tables import UNLABELLED
from metakd.errors import InputError
from metakd.models.classifier import check_tokenizer, is_classifier, labels_of, load_classifier, load_config
from metakd.models.folders import load_info
from metakd.models.views import Need, view

BATCH_SIZE = 64


def to_device(batch: Batch, device: torch.device) -> Batch:
    return {name: values.to(device, non_blocking=True) for name, values in batch.items()}


@dataclass(frozen=True)
class Loaded:
    """A trained classifier, ready to predict.

    Args:
        model: on the device, in eval mode.
        tokenizer: its own.
        labels: what its logits stand for.
        max_length: tokens a row is cut to.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    labels: Labels
    max_length: int

    def encode(self, table: str | Path, domains: list[str]) -> EncodedRows:
        """A labelled table as this model takes it."""
        return encode(table, self.tokenizer, self.max_length, self.labels, domains)

    def encode_texts(self, table: str | Path) -> EncodedRows:
        """A table of which the texts alone count."""
        return encode(table, self.tokenizer, self.max_length, required=UNLABELLED)


def load_for_inference(folder: Path, max_length: int | None, accelerator: Accelerator) -> Loaded:
    """The classifier in a folder.

    Args:
        max_length: by default that of its training, or 128.

    Raises:
        InputError: there is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder of a trained classifier")
    config, info = load_config(str(folder)), load_info(folder)
    if not is_classifier(config):
        raise InputError(f"{folder} holds no trained classifier")
    labels = labels_of(config)
    model = load_classifier(str(folder), labels).to(accelerator.device).eval()
    length = max_length or (info.max_length if info else 128)
    tokenizer = load_tokenizer(str(folder))
    check_tokenizer(model, tokenizer, length, str(folder))
    return Loaded(model, tokenizer, labels, length)


def batches_over(
    rows: EncodedRows, accelerator: Accelerator, label: str, done: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, Batch]]:
    """This process's share of the rows as (row numbers, batch on the device).

    Args:
        label: of the progress bar.
        done: rows [n] that are left out; batches stay the same, so that values do not depend on it.
    """
    batches = plan_inference(rows.lengths, BATCH_SIZE, accelerator.process_index, accelerator.num_processes)
    if done is not None:
        batches = [chosen for chosen in batches if not done[chosen].all()]
    quiet = not accelerator.is_main_process
    for chosen in tqdm(batches, label, leave=False, disable=quiet or None, mininterval=1.0):
        yield chosen, to_device(rows.batch(chosen), accelerator.device)


@torch.no_grad()
def run_over(
    rows: EncodedRows,
    model: nn.Module,
    compute: Callable[[Batch], Tensor],
    accelerator: Accelerator,
    label: str,
    done: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (row numbers, values [B, D]) of this process's share of the rows; the model is in eval mode meanwhile.

    Args:
        compute: from a batch on the device to values.
        label, done: see `batches_over`.
    """
    training = model.training
    model.eval()
    for chosen, batch in batches_over(rows, accelerator, label, done):
        with accelerator.autocast():
            values = compute(batch)
        yield chosen, values.float().cpu().numpy()
    model.train(training)


def logits_by(model: PreTrainedModel) -> Callable[[Batch], Tensor]:
    """From a batch to the model's logits [B, C]."""

    def compute(batch: Batch) -> Tensor:
        logits = view(model, batch, Need()).logits
        assert logits is not None
        return logits

    return compute


def logits_of(
    model: PreTrainedModel, rows: EncodedRows, accelerator: Accelerator, label: str = "predicting"
) -> np.ndarray:
    """Logits of every row [n, C], on every process."""
    found = torch.zeros(len(rows), model.config.num_labels)
    for chosen, values in run_over(rows, model, logits_by(model), accelerator, label):
        found[chosen] = torch.from_numpy(values)
    return accelerator.reduce(found.to(accelerator.device), "sum").cpu().numpy()


def fill_store(
    folder: Path,
    rows: EncodedRows,
    width: int,
    model: nn.Module,
    compute: Callable[[Batch], Tensor],
    accelerator: Accelerator,
    label: str,
) -> None:
    """Write the values [n, width] of all rows to a row store; what an interrupted run has written is kept.

    Every process writes its share into the same memory-mapped file, so memory does not grow with the table.
    """
    if accelerator.is_main_process:
        create(folder, rows.guids, width)
    accelerator.wait_for_everyone()
    store = RowStore(folder, writable=True)
    assert store.done is not None
    done = np.array(store.done)
    accelerator.wait_for_everyone()  # all have read what is done before anyone writes
    for chosen, values in run_over(rows, model, compute, accelerator, label, done):
        store.write(chosen, values)
