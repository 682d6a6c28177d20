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
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import metakd
from metakd.data.labels import Labels
from metakd.data.tables import LABELLED, load
from metakd.errors import InputError

Batch = dict[str, torch.Tensor]
PROBE = "Naïve CAFÉ-goers don't pay $3.50, do they? 中文 [MASK]\tun\u200bbelievable"
MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
BLOCK = 8192  # rows that are looked at together
ARRAYS = ("lengths", "labels", "labelled", "domains", "weights")  # the columns of EncodedRows


def model_inputs(batch: Batch) -> Batch:
    """What an encoder takes of a batch."""
    return {name: batch[name] for name in MODEL_INPUTS if name in batch}


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hub name or folder."""
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"no tokenizer could be loaded from {name!r}: {error}") from None


@dataclass(frozen=True)
class EncodedRows:
    """Tokenised rows of a table. Token ids stay in a memory-mapped file; the columns below are arrays [n].

    Args:
        tokens: dataset with guid, input_ids and, if the tokenizer makes them, token_type_ids.
        lengths: tokens per row.
        labels: targets, see `Labels.targets`; zero where a row has no label.
        labelled: which rows have a label.
        domains: domain numbers in the order of the task's names; -1 where a row has no domain.
        weights: the table's weight column, NaN where it is empty; ones where there is no such column.
        weighted: whether the table has a weight column.
        pad_token_id: fills the batch.
        cls_token_id: the token that stands for the whole row, or None.
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
        return self.tokens["guid"]

    def select(self, rows: np.ndarray) -> EncodedRows:
        """The given rows, in the given order."""
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in ARRAYS}
        return replace(self, tokens=self.tokens.select(rows), **arrays)

    def of_domain(self, domain: int) -> EncodedRows:
        return self.select(np.flatnonzero(self.domains == domain))

    def followed_by(self, other: EncodedRows) -> EncodedRows:
        """These rows and then the other's, which were encoded by the same tokenizer."""
        arrays: dict[str, Any] = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in ARRAYS}
        return replace(self, tokens=datasets.concatenate_datasets([self.tokens, other.tokens]), **arrays)

    def without_labels(self, hidden: np.ndarray) -> EncodedRows:
        """The same rows with some labels hidden (bool [n])."""
        labels = self.labels.copy()
        labels[hidden] = 0
        return replace(self, labels=labels, labelled=self.labelled & ~hidden)

    def used_ids(self) -> np.ndarray:
        """The token ids that occur, and that of padding, each once."""
        found = [np.array([self.pad_token_id])]
        for part in self.tokens.select_columns("input_ids").with_format("arrow").iter(batch_size=BLOCK):
            found.append(np.unique(flat(part["input_ids"])))
        return np.unique(np.concatenate(found))

    def batch(self, rows: np.ndarray) -> Batch:
        """Rows padded to the longest of them.

        Returns:
            input_ids, attention_mask[, token_type_ids], content_mask (no padding, no [CLS]): [B, L];
            label, domain: [B].
        """
        picked = self.tokens.with_format("arrow")[rows]
        lengths = torch.as_tensor(self.lengths[rows])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        batch = {"attention_mask": mask.long()}
        for name, padding in (("input_ids", self.pad_token_id), ("token_type_ids", 0)):
            if name in picked.column_names:
                batch[name] = torch.full(mask.shape, padding)
                batch[name][mask] = torch.from_numpy(flat(picked[name]))
        batch["content_mask"] = batch["attention_mask"] * (batch["input_ids"] != self.cls_token_id)
        batch["label"] = torch.as_tensor(self.labels[rows])
        batch["domain"] = torch.as_tensor(self.domains[rows])
        return batch


def flat(column: Any) -> np.ndarray:
    """The numbers of an Arrow column of lists, one list after the other, as int64."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.int64, copy=False)


def encode(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    labels: Labels | None = None,
    domains: Sequence[str] | None = None,
    required: Sequence[str] = LABELLED,
) -> EncodedRows:
    """Tokenise a table; a row with a text_b becomes a pair. Kept in the datasets cache by content.

    Args:
        labels: how labels are read; None gives every row the target 0.
        domains: the task's domain names, in the order of their numbers; None gives every row -1.
        required: see `metakd.data.tables.read_rows`.

    Raises:
        TableError: see `metakd.data.tables.read_rows`.
    """
    table = load(path, labels, domains, required)
    # With the version of what tokenises, so that nothing stale is taken from the cache.
    settings = [table._fingerprint, tokenizer_hash(tokenizer), max_length, metakd.__version__, transformers.__version__]
    encoded = table.map(
        lambda rows: _tokenise(rows, tokenizer, max_length),
        batched=True,
        remove_columns=["text_a", "text_b"],
        new_fingerprint=hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16],
        desc=f"tokenising {Path(path).name}",
    )
    domain_number = {name: i for i, name in enumerate(domains or [])}
    weighted = "weight" in encoded.column_names
    columns = [name for name in ("guid", "input_ids", "token_type_ids") if name in encoded.column_names]
    found = encoded["label"][:]
    return EncodedRows(
        tokens=encoded.select_columns(columns),
        lengths=np.asarray(encoded["length"], dtype=np.int64),
        labels=labels.targets(found) if labels is not None else np.zeros(len(encoded), dtype=np.int64),
        labelled=np.array([label != "" for label in found]),
        domains=np.asarray([domain_number.get(name, -1) for name in encoded["domain"]], dtype=np.int64),
        weights=np.asarray(encoded["weight"] if weighted else np.ones(len(encoded)), dtype=np.float64),
        weighted=weighted,
        pad_token_id=tokenizer.pad_token_id or 0,
        cls_token_id=tokenizer.cls_token_id,
    )


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """What tells two tokenizers apart: vocabulary, special tokens, kind and case."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state: Any = json.loads(backend.to_str()) if backend is not None else sorted(tokenizer.get_vocab().items())
    if isinstance(state, dict):  # set by the last call, no part of what the tokenizer is
        state.pop("truncation", None)
        state.pop("padding", None)
    parts = [type(tokenizer).__name__, tokenizer.special_tokens_map, tokenizer.model_input_names, state]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def same_tokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers make the same ids: the same vocabulary, and the same ids of a text with traps.

    What they do is compared, not how they are stored: one model may ship a vocab.txt, the other a tokenizer.json.
    """
    if one.get_vocab() != other.get_vocab():
        return False
    return all(one(*texts)["input_ids"] == other(*texts)["input_ids"] for texts in ((PROBE,), (PROBE, PROBE)))


def _tokenise(rows: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, list]:
    """Rows without text_b are single sequences, also where others of the table are pairs."""
    count = len(rows["text_a"])
    with_types = "token_type_ids" in tokenizer.model_input_names
    names = ["input_ids", "token_type_ids"] if with_types else ["input_ids"]
    result: dict[str, list] = {name: [None] * count for name in names}
    for pair in (False, True):
        chosen = [i for i in range(count) if bool(rows["text_b"][i]) == pair]
        if not chosen:
            continue
        texts = [[rows["text_a"][i] for i in chosen]]
        if pair:
            texts.append([rows["text_b"][i] for i in chosen])
        found = tokenizer(*texts, truncation=True, max_length=max_length, return_token_type_ids=with_types,
                          return_attention_mask=False)  # fmt: skip
        for name in names:
            for i, values in zip(chosen, found[name], strict=True):
                result[name][i] = values
    return {**result, "length": [len(values) for values in result["input_ids"]]}
