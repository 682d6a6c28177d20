"""From a table to token ids, and from rows to padded batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from transformers import PreTrainedTokenizerBase

import metakd
from metakd.data.labels import Labels
from metakd.data.tables import LABELLED, load_table
from metakd.data.tokenizers import tokenizer_hash

Batch = dict[str, torch.Tensor]
MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
BLOCK = 8192  # rows read at a time
ARRAYS = ("lengths", "labels", "labelled", "domains", "weights")  # the fields of EncodedRows that are arrays [n]


def model_inputs(batch: Batch) -> Batch:
    """The entries of a batch that an encoder takes as inputs."""
    return {name: batch[name] for name in MODEL_INPUTS if name in batch}


@dataclass(frozen=True)
class EncodedRows:
    """The tokenised rows of a table. Token ids stay in a memory-mapped file; the other columns are arrays [n].

    Args:
        tokens: dataset with guid, input_ids and, if the tokenizer makes them, token_type_ids.
        lengths: tokens per row.
        labels: targets, see `Labels.targets`; zeros for a row without a label.
        labelled: whether a row has a label.
        domains: domain numbers, in the order of the task's domain names; -1 for a row without a domain.
        weights: the table's weight column, NaN for an empty field; all ones if there is no such column.
        weighted: whether the table has a weight column.
        pad_token_id: the token that fills short rows of a batch.
        cls_token_id: the token that stands for the whole row; None if the tokenizer has none.
    """

    tokens: datasets.Dataset
    lengths: np.ndarray
    labels: np.ndarray
    labelled: np.ndarray
    domains: np.ndarray
    weights: np.ndarray
    weighted: bool
    pad_token_id: int
    cls_token_id: int | None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def guids(self) -> Sequence[str]:
        """The guid of each row."""
        return self.tokens["guid"]

    def select(self, rows: np.ndarray) -> EncodedRows:
        """The rows with these numbers, in this order."""
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in ARRAYS}
        return replace(self, tokens=self.tokens.select(rows), **arrays)

    def spread(self, most: int) -> EncodedRows:
        """At most so many rows, which lie evenly in the table."""
        return self.select(np.linspace(0, len(self) - 1, min(most, len(self))).astype(np.int64))

    def of_domain(self, domain: int) -> EncodedRows:
        """The rows of a domain."""
        return self.select(np.flatnonzero(self.domains == domain))

    def concatenate(self, other: EncodedRows) -> EncodedRows:
        """These rows, then the other's; both must be encoded by the same tokenizer."""
        arrays: dict[str, Any] = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in ARRAYS}
        return replace(self, tokens=datasets.concatenate_datasets([self.tokens, other.tokens]), **arrays)

    def without_labels(self, hidden: np.ndarray) -> EncodedRows:
        """The same rows, without the labels of the hidden ones (bool [n])."""
        labels = self.labels.copy()
        labels[hidden] = 0
        return replace(self, labels=labels, labelled=self.labelled & ~hidden)

    def used_ids(self) -> np.ndarray:
        """The token ids that occur, and that of padding, each once."""
        blocks = self.tokens.select_columns("input_ids").with_format("arrow").iter(batch_size=BLOCK)
        ids_by_block = [np.unique(flatten_lists(block["input_ids"])) for block in blocks]
        return np.unique(np.concatenate([[self.pad_token_id], *ids_by_block]))

    def content_hash(self) -> str:
        """SHA-256 over guids, token ids and lengths. Tables that differ in weights or labels alone have the same."""
        digest = hashlib.sha256(self.lengths.astype(np.int64).tobytes())
        for block in self.tokens.select_columns(["guid", "input_ids"]).with_format("arrow").iter(batch_size=BLOCK):
            guids = json.dumps(block["guid"].to_pylist())
            digest.update(guids.encode("utf-8", "surrogateescape"))
            digest.update(flatten_lists(block["input_ids"]).tobytes())
        return digest.hexdigest()

    def batch(self, rows: np.ndarray) -> Batch:
        """The rows with these numbers, padded to the longest one.

        Returns:
            input_ids, attention_mask[, token_type_ids], content_mask (0 for padding and [CLS]): [B, L];
            label: [B], or [B, C] for multi-label; domain: [B].
        """
        columns = self.tokens.with_format("arrow")[rows]
        lengths = torch.as_tensor(self.lengths[rows])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        batch = {"attention_mask": mask.long()}
        for name, padding in (("input_ids", self.pad_token_id), ("token_type_ids", 0)):
            if name in columns.column_names:
                batch[name] = torch.full(mask.shape, padding)
                batch[name][mask] = torch.from_numpy(flatten_lists(columns[name]))
        batch["content_mask"] = batch["attention_mask"] * (batch["input_ids"] != self.cls_token_id)
        batch["label"] = torch.as_tensor(self.labels[rows])
        batch["domain"] = torch.as_tensor(self.domains[rows])
        return batch


def flatten_lists(column: Any) -> np.ndarray:
    """All numbers of an Arrow column of lists, list after list, as one int64 array."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.int64, copy=False)


def encode(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    labels: Labels | None = None,
    domains: Sequence[str] | None = None,
    required: Sequence[str] = LABELLED,
) -> EncodedRows:
    """The tokenised rows of a table, kept in the datasets cache by content; a row with a text_b becomes a pair.

    Args:
        labels: how labels are read; None gives every row the target 0.
        domains: the task's domain names, in the order of their numbers; None gives every row -1. Where no domain is
            required, a name that is not among them gives -1 too.
        required: columns that every row must fill, see `metakd.data.tables.read_rows`.

    Raises:
        TableError: see `metakd.data.tables.read_rows`.
    """
    table = load_table(path, labels, domains if "domain" in required else None, required)
    # The cache key names everything that decides the token ids, versions included.
    cache_key = [
        table._fingerprint,
        tokenizer_hash(tokenizer),
        max_length,
        metakd.__version__,
        transformers.__version__,
    ]
    encoded = table.map(
        lambda rows: tokenise(rows, tokenizer, max_length),
        batched=True,
        remove_columns=["text_a", "text_b"],
        new_fingerprint=hashlib.sha256(json.dumps(cache_key).encode()).hexdigest()[:16],
        desc=f"tokenising {Path(path).name}",
    )
    domain_number = {name: i for i, name in enumerate(domains or [])}
    weighted = "weight" in encoded.column_names
    columns = [name for name in ("guid", "input_ids", "token_type_ids") if name in encoded.column_names]
    label_texts = encoded["label"][:]
    return EncodedRows(
        tokens=encoded.select_columns(columns),
        lengths=np.asarray(encoded["length"], dtype=np.int64),
        labels=labels.targets(label_texts) if labels is not None else np.zeros(len(encoded), dtype=np.int64),
        labelled=np.array([label != "" for label in label_texts]),
        domains=np.asarray([domain_number.get(name, -1) for name in encoded["domain"]], dtype=np.int64),
        weights=np.asarray(encoded["weight"] if weighted else np.ones(len(encoded)), dtype=np.float64),
        weighted=weighted,
        pad_token_id=tokenizer.pad_token_id or 0,
        cls_token_id=tokenizer.cls_token_id,
    )


def encode_few(
    guids: Sequence[str], texts: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> EncodedRows:
    """The tokenised rows of texts in memory, without labels.

    Args:
        texts: text_a and text_b of each row.
    """
    columns = tokenise(texts, tokenizer, max_length)
    lengths = np.array(columns.pop("length"))
    zeros = np.zeros(len(lengths), dtype=np.int64)
    tokens = datasets.Dataset.from_dict({"guid": list(guids), **columns})
    return EncodedRows(
        tokens, lengths, zeros, zeros > 0, zeros, np.ones(len(zeros)), False, tokenizer.pad_token_id or 0,
        tokenizer.cls_token_id,
    )  # fmt: skip


def tokenise(rows: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, list]:
    """Token ids, token types and lengths of rows; only the rows with a text_b are encoded as pairs."""
    count = len(rows["text_a"])
    with_types = "token_type_ids" in tokenizer.model_input_names
    names = ["input_ids", "token_type_ids"] if with_types else ["input_ids"]
    columns: dict[str, list] = {name: [None] * count for name in names}
    for fields in (["text_a"], ["text_a", "text_b"]):
        is_pair = len(fields) == 2
        chosen = [i for i in range(count) if bool(rows["text_b"][i]) == is_pair]
        if not chosen:
            continue
        texts = [[rows[field][i] for i in chosen] for field in fields]
        encoding = tokenizer(*texts, truncation=True, max_length=max_length, return_token_type_ids=with_types,
                             return_attention_mask=False)  # fmt: skip
        for name in names:
            for i, values in zip(chosen, encoding[name], strict=True):
                columns[name][i] = values
    return {**columns, "length": [len(values) for values in columns["input_ids"]]}
