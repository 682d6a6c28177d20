"""Pairs of texts as token ids: sources, and the translations that a model learns to write."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedTokenizerBase

import metakd
from metakd.data.encoding import BLOCK, flatten_lists
from metakd.data.tables import load_table
from metakd.data.tokenizers import tokenizer_hash
from metakd.errors import InputError
from metakd.translation.settings import PAIRS

log = logging.getLogger(__name__)
Batch = dict[str, Tensor]
IDS, NUMBER = datasets.List(datasets.Value("int64")), datasets.Value("int64")
FEATURES = datasets.Features({
    "guid": datasets.Value("string"), "source": IDS, "target": IDS, "cut": datasets.Value("bool"),
    "source_length": NUMBER, "target_length": NUMBER,
})  # fmt: skip


@dataclass(frozen=True)
class EncodedPairs:
    """The tokenised pairs of a table; ids stay in a memory-mapped file.

    Args:
        tokens: dataset with guid, source (ids) and target (ids, the end of the text included).
        source_lengths, target_lengths: tokens [n].
        cut: rows of which a side is longer than was allowed, and so was cut [n].
        pad_token_id: fills short rows of a batch.
    """

    tokens: datasets.Dataset
    source_lengths: np.ndarray
    target_lengths: np.ndarray
    cut: np.ndarray
    pad_token_id: int

    def __len__(self) -> int:
        return len(self.source_lengths)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per row [n]: of the source or of the target, whichever is longer, as fairseq counts them."""
        return np.maximum(self.source_lengths, self.target_lengths)

    @property
    def guids(self) -> Sequence[str]:
        """The guid of each row."""
        return self.tokens["guid"]

    def select(self, rows: np.ndarray) -> EncodedPairs:
        """The rows with these numbers, in this order."""
        arrays = {name: getattr(self, name)[rows] for name in ("source_lengths", "target_lengths", "cut")}
        return replace(self, tokens=self.tokens.select(rows), **arrays)

    def used_ids(self) -> np.ndarray:
        """The token ids that occur on either side, and that of padding, each once."""
        ids = [np.array([self.pad_token_id])]
        for block in self.tokens.select_columns(["source", "target"]).with_format("arrow").iter(batch_size=BLOCK):
            ids += [np.unique(flatten_lists(block[name])) for name in ("source", "target")]
        return np.unique(np.concatenate(ids))

    def batch(self, rows: np.ndarray) -> Batch:
        """The rows with these numbers, padded to the longest one.

        Returns:
            input_ids, attention_mask: [B, S]; target, target_mask: [B, L].
        """
        columns = self.tokens.with_format("arrow")[rows]
        batch = {}
        names = {"source": ("input_ids", "attention_mask"), "target": ("target", "target_mask")}
        for side, (ids, mask) in names.items():
            lengths = torch.as_tensor(getattr(self, f"{side}_lengths")[rows])
            inside = torch.arange(max(1, int(lengths.max()))) < lengths[:, None]
            batch[ids] = torch.full(inside.shape, self.pad_token_id)
            batch[ids][inside] = torch.tensor(flatten_lists(columns[side]))  # a copy: Arrow's memory is read-only
            batch[mask] = inside.long()
        return batch


def encode_pairs(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, max_length: int, required: Sequence[str] = PAIRS
) -> EncodedPairs:
    """The tokenised pairs of a table, kept in the datasets cache by content.

    Args:
        max_length: most tokens of a text; a longer one is cut.
        required: `PAIRS`, or `SOURCES` for rows that are only translated.

    Raises:
        TableError: see `metakd.data.tables.read_rows`.
    """
    table = load_table(path, required=required)
    key = [table._fingerprint, tokenizer_hash(tokenizer), max_length, metakd.__version__, transformers.__version__]
    encoded = table.map(
        lambda rows: tokenise_pairs(rows, tokenizer, max_length),
        batched=True,
        remove_columns=[name for name in table.column_names if name != "guid"],
        features=FEATURES,
        new_fingerprint=hashlib.sha256(json.dumps(["pairs 2", *key]).encode()).hexdigest()[:16],
        desc=f"tokenising {Path(path).name}",
    )
    return EncodedPairs(
        tokens=encoded.select_columns(["guid", "source", "target"]),
        source_lengths=np.asarray(encoded["source_length"], dtype=np.int64),
        target_lengths=np.asarray(encoded["target_length"], dtype=np.int64),
        cut=np.asarray(encoded["cut"], dtype=bool),
        pad_token_id=tokenizer.pad_token_id,
    )


def require_whole(pairs: EncodedPairs, path: str | Path, max_length: int) -> None:
    """Refuse rows that were cut: a model that learns from cut translations learns to stop in the middle."""
    if pairs.cut.any():
        guid = pairs.guids[int(pairs.cut.argmax())]
        raise InputError(
            f"{path}: row {guid!r} has more than {max_length} tokens ({pairs.cut.sum()} of {len(pairs)} rows do); "
            "raise task.max_length, or leave such rows out (data_prep/parallel_text.py --max_words)"
        )


def whole(pairs: EncodedPairs, path: str | Path) -> EncodedPairs:
    """The rows that were not cut; the log says how many were. A teacher's endless hypotheses are such.

    Raises:
        InputError: none is left.
    """
    if pairs.cut.all():
        raise InputError(
            f"{path}: all {len(pairs)} translations are too long, as those of a teacher that has learnt too little; "
            "train the teacher longer"
        )
    if pairs.cut.any():
        log.warning("%s: %d of %d rows are too long and left out", path, pairs.cut.sum(), len(pairs))
    return pairs.select(np.flatnonzero(~pairs.cut))


def tokenise_pairs(rows: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, Any]:
    """Ids and lengths of sources and targets, and whether one of them was cut; a row without label has no target."""
    # A text may hold the words <pad> or </s>; they are words there.
    options: dict[str, Any] = {"return_attention_mask": False, "verbose": False, "split_special_tokens": True}
    sources = tokenizer(rows["text_a"], **options)["input_ids"]
    targets = tokenizer(text_target=[text or " " for text in rows["label"]], **options)["input_ids"]
    targets = [ids if text else [] for ids, text in zip(targets, rows["label"], strict=True)]
    cut = [max(len(one), len(two)) > max_length for one, two in zip(sources, targets, strict=True)]
    end = tokenizer.eos_token_id
    sources, targets = (
        [ids if len(ids) <= max_length else [*ids[: max_length - 1], end] for ids in side]
        for side in (sources, targets)
    )
    lengths = {"source_length": [len(ids) for ids in sources], "target_length": [len(ids) for ids in targets]}
    return {"source": sources, "target": targets, "cut": cut, **lengths}
