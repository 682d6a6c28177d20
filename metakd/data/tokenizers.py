"""Which ids a tokenizer makes: a hash of it, whether two are alike, and what it puts around a row."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedTokenizerBase

from metakd.manifests import file_hash

# The ids of this text show how a tokenizer treats case, accents, punctuation, white space and special tokens.
PROBE = "Naïve CAFÉ-goers don't pay $3.50, do they? 中文 [MASK]\tun\u200bbelievable"
# Settings of a tokenizer that say where it lies, or are in its vocabulary and special tokens too.
ELSEWHERE = (
    "name_or_path", "_file", "_dir", "is_local", "local_files_only", "_token", "_tokens", "added_tokens_decoder",
)  # fmt: skip


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of what decides a tokenizer's ids: class, settings, vocabulary and rules, and the ids of `PROBE`.

    The rules of a tokenizer in Python are code; its settings and the probe, whole and cut, stand for them.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    probes = [(PROBE,), (PROBE, PROBE)]
    ids = [tokenizer(*texts, truncation=cut, max_length=12 if cut else None, verbose=False)["input_ids"]
           for texts in probes for cut in (True, False)]  # fmt: skip
    if backend is not None:
        state: Any = json.loads(backend.to_str())
        del state["truncation"], state["padding"]  # left by the last call
    else:
        with TemporaryDirectory() as folder:
            tokenizer.save_vocabulary(folder)
            files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
            added = {str(number): repr(token) for number, token in tokenizer.added_tokens_decoder.items()}
            state = [sorted(tokenizer.get_vocab().items()), [file_hash(file) for file in files], added]
    settings = {name: value for name, value in vars(tokenizer).items() if isinstance(value, str | int | float)}
    settings |= {f"init {name}": value for name, value in tokenizer.init_kwargs.items()}
    settings = {name: value for name, value in settings.items() if not name.endswith(ELSEWHERE)}
    parts = [type(tokenizer).__qualname__, tokenizer.special_tokens_map, tokenizer.model_input_names, settings]
    text = json.dumps([*parts, ids, state], default=lambda value: type(value).__qualname__, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def tokens_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Ids of the special tokens that a tokenizer puts before and after a row, e.g. ([CLS], [SEP])."""
    encoding = tokenizer("a", return_special_tokens_mask=True)
    ids = encoding["input_ids"]
    inside = [number for number, special in enumerate(encoding["special_tokens_mask"]) if not special]
    return (ids[: inside[0]], ids[inside[-1] + 1 :]) if inside else ([], [])


def same_tokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers make the same ids: they have one vocabulary, and encode `PROBE` alike.

    Their files are not compared: one model may ship a vocab.txt, the other a tokenizer.json.
    """
    if one.get_vocab() != other.get_vocab():
        return False
    return all(one(*texts)["input_ids"] == other(*texts)["input_ids"] for texts in ((PROBE,), (PROBE, PROBE)))
