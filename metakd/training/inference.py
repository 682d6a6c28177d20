"""Passes over rows without gradients: embeddings, teacher logits, predictions, evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from metakd.cpu.tuning import tune
from metakd.data.batches import plan_inference
from metakd.data.encoding import Batch, EncodedRows, encode
from metakd.data.labels import Labels
from metakd.data.row_store import RowStore, create_store
from metakd.data.tables import UNLABELLED, domain_names
from metakd.errors import InputError, name_list
from metakd.models.classifier import is_classifier, labels_of
from metakd.models.last_layer import keep_outputs
from metakd.models.loading import first_not_finite, load_config
from metakd.models.model_io import ModelInfo, load_info, save_model
from metakd.models.views import compute_views
from metakd.training.dry_run import load_with_tokenizer
from metakd.training.runtime import start

log = logging.getLogger(__name__)
BATCH_SIZE = 64


def to_device(batch: Batch, device: torch.device) -> Batch:
    return {name: values.to(device, non_blocking=True) for name, values in batch.items()}


@dataclass(frozen=True)
class Classifier:
    """What a classifier makes of tables, whatever runs it.

    Args:
        tokenizer: its own.
        labels: of its logits.
        max_length: tokens that a row is cut to.
    """

    tokenizer: PreTrainedTokenizerBase
    labels: Labels
    max_length: int

    def encode(self, table: str | Path, domains: list[str], domain: str = "") -> EncodedRows:
        """The rows of a labelled table that belong to a domain, or all of them, tokenised for this model.

        Raises:
            InputError: the model knows the classes of another domain alone.
        """
        if self.labels.domain not in ("", domain):
            raise InputError(
                f"this model knows the classes of domain {self.labels.domain!r} alone; give it that domain's rows, by "
                "--domain"
            )
        rows = encode(table, self.tokenizer, self.max_length, self.labels, domains)
        return rows.of_domain(domains.index(domain)) if domain else rows

    def encode_texts(self, table: str | Path, domain: str = "") -> EncodedRows:
        """The texts of a table, or of its domain, tokenised for this model; labels are not read."""
        domains = domain_names(table, domain, UNLABELLED) if domain else None
        rows = encode(table, self.tokenizer, self.max_length, domains=domains, required=UNLABELLED)
        return rows.of_domain(domains.index(domain)) if domains else rows


@dataclass(frozen=True)
class LoadedClassifier(Classifier):
    """A trained classifier, ready to predict.

    Args:
        model: on the device, in eval mode.
    """

    model: PreTrainedModel

    @property
    def compute(self) -> Callable[[Batch], Tensor]:
        """A function from a batch to the logits [B, C]."""
        return logits_fn(self.model)

    def answering(self, labels: Labels) -> LoadedClassifier:
        """This classifier, answering with a domain's own classes alone if `labels` are such; its model is changed.

        Raises:
            InputError: other labels, see `metakd.models.last_layer.keep_outputs`.
        """
        keep_outputs(self.model, labels)
        if len(labels.names) < len(self.labels.names):
            log.info("a model of %d classes answers with %s alone", len(self.labels.names), name_list(labels.names))
        return replace(self, labels=replace(labels, names=labels_of(self.model.config).names))


def load_trained_classifier(
    folder: Path, max_length: int | None, accelerator: Accelerator, cpu_tuning: str = "auto"
) -> LoadedClassifier:
    """The classifier in a folder.

    Args:
        max_length: by default that of its training, or 128.
        cpu_tuning: "auto" or "off".

    Raises:
        InputError: the folder holds none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder of a trained classifier")
    if any(folder.glob("*.onnx")) and not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder} holds exported files; name the folder of the classifier that they were made from")
    config, info = load_config(str(folder)), load_info(folder)
    if not is_classifier(config):
        raise InputError(f"{folder} holds no trained classifier")
    labels = replace(labels_of(config), domain=info.own_labels_of if info else "")
    length = max_length or (info.max_length if info else 128)
    model, tokenizer = load_with_tokenizer(str(folder), labels, length)
    require_room(length, tokenizer)
    model.to(accelerator.device).eval()
    if cpu_tuning == "auto" and accelerator.device.type == "cpu":
        tune(model)
    return LoadedClassifier(tokenizer, labels, length, model)


def require_room(max_length: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a length that has no room for a token beside the special ones."""
    special = tokenizer.num_special_tokens_to_add(pair=True)
    if max_length <= special:
        raise InputError(
            f"max_length is {max_length}, but {special} tokens of a row are special; use {special + 1} or more"
        )


def load_to_rewrite(folder: Path) -> tuple[LoadedClassifier, Accelerator]:
    """The classifier in a folder in stock PyTorch and fp32, for a script that writes it in another form.

    Raises:
        InputError: the folder holds none, or several processes run.
    """
    accelerator = start("fp32", "off")
    if accelerator.num_processes > 1:
        raise InputError(f"{folder} is rewritten by one process; run the script by python")
    return load_trained_classifier(folder, None, accelerator, "off"), accelerator


def save_rewritten(folder: Path, classifier: LoadedClassifier, source: Path) -> None:
    """Write a classifier in its new form, with what is known of the training of the one in `source`."""
    info = load_info(source) or ModelInfo([], classifier.max_length)
    save_model(folder, classifier.model, classifier.tokenizer, info, {})


class RowsOfBatches(Protocol):
    """Rows that are run through a model."""

    @property
    def lengths(self) -> np.ndarray: ...
    def batch(self, rows: np.ndarray) -> Batch: ...


def batches_over(
    rows: RowsOfBatches,
    accelerator: Accelerator,
    title: str,
    done: np.ndarray | None = None,
    batch_size: int = BATCH_SIZE,
) -> Iterator[tuple[np.ndarray, Batch]]:
    """This process's share of the rows as (row numbers, batch on the device).

    Args:
        title: of the progress bar.
        done: rows (bool [n]) to skip. Batches stay the same, so values do not depend on it.
    """
    batches = plan_inference(rows.lengths, batch_size, accelerator.process_index, accelerator.num_processes)
    if done is not None:
        batches = [chosen for chosen in batches if not done[chosen].all()]
    hide_bar = None if accelerator.is_main_process else True  # None: hidden where there is no terminal
    for chosen in tqdm(batches, title, leave=False, disable=hide_bar, mininterval=1.0):
        yield chosen, to_device(rows.batch(chosen), accelerator.device)


@torch.no_grad()
def infer_batches(
    rows: EncodedRows,
    model: nn.Module,
    compute: Callable[[Batch], Tensor],
    accelerator: Accelerator,
    title: str,
    done: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (row numbers, values [B, D]) of this process's share of the rows, with the model in eval mode.

    Args:
        compute: values of a batch on the device.
        title, done: see `batches_over`.

    Raises:
        InputError: a value is not finite.
    """
    training = model.training
    model.eval()
    for chosen, batch in batches_over(rows, accelerator, title, done):
        with accelerator.autocast():
            values = compute(batch)
        require_finite([values], model, rows, chosen, title)
        yield chosen, values.float().cpu().numpy()
    model.train(training)


def require_finite(
    values: Collection[Tensor], model: nn.Module, rows: EncodedRows, chosen: np.ndarray, title: str
) -> None:
    """Refuse values [B, ...] of a model that are not finite.

    Args:
        chosen: the numbers of the batch's rows [B].
        title: of what is computed.

    Raises:
        InputError: it names the model, the first such row and, if they are the cause, the weights.
    """
    extremes = [value for part in values for value in part.aminmax()]  # one pass; NaN is both
    if not values or bool(torch.stack(extremes).isfinite().all()):
        return
    finite = torch.stack([part.isfinite().flatten(1).all(1) for part in values]).all(0)
    guid, name = rows.guids[int(chosen[int(finite.int().argmin())])], getattr(model, "name_or_path", "")
    tensor = first_not_finite(model)
    remedy = "look at the row's text, or set task.training.precision to fp32"
    if tensor is not None:  # loaded weights are finite
        remedy = f"{tensor} does too, so training diverged; lower the learning rate"
    raise InputError(f"{title}: {name or type(model).__name__} gives NaN or infinity for row {guid!r}; {remedy}")


def logits_fn(model: PreTrainedModel) -> Callable[[Batch], Tensor]:
    """A function from a batch to the model's logits [B, C]."""
    return lambda batch: compute_views(model, batch).logits


def predict_logits(
    model: PreTrainedModel, rows: EncodedRows, accelerator: Accelerator, title: str = "predicting"
) -> np.ndarray:
    """Logits of every row [n, C], on every process."""
    logits = torch.zeros(len(rows), model.config.num_labels)
    for chosen, values in infer_batches(rows, model, logits_fn(model), accelerator, title):
        logits[chosen] = torch.from_numpy(values)
    return accelerator.reduce(logits.to(accelerator.device), "sum").cpu().numpy()


def fill_store(
    folder: Path,
    rows: EncodedRows,
    width: int,
    model: nn.Module,
    compute: Callable[[Batch], Tensor],
    accelerator: Accelerator,
    title: str,
) -> None:
    """Write the values [n, width] of all rows to a row store; values of an interrupted run are kept.

    Every process writes its share into the same memory-mapped file, so memory does not grow with the table.
    """
    if accelerator.is_main_process:
        create_store(folder, rows.guids, width)
    accelerator.wait_for_everyone()
    store = RowStore(folder, writable=True)
    assert store.done is not None
    done = np.array(store.done)
    accelerator.wait_for_everyone()  # all have read what is done before anyone writes
    for chosen, values in infer_batches(rows, model, compute, accelerator, title, done):
        store.write(chosen, values)
