"""Cut a trained classifier's vocabulary down to the words of its task: words are most of a small model's size."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from metakd.errors import InputError

# Kinds whose entries do not depend on one another; byte-pair encoding builds each entry from smaller ones.
KINDS = ("WordPiece", "WordLevel")


def kept_words(tokenizer: PreTrainedTokenizerBase, used: np.ndarray) -> np.ndarray:
    """Ids of the entries that stay, rising: the used ones, special tokens, and single characters.

    WordPiece takes the longest entry that fits, so texts of used entries become the same tokens as before; the single
    characters (as a word's start and inside it) spell words that were not used.

    Args:
        used: ids of the entries that the task's rows need.

    Raises:
        InputError: the tokenizer is of a kind whose entries cannot be taken out one by one.
    """
    model = parts(tokenizer)["model"]
    if model["type"] not in KINDS:
        raise InputError(
            f"a {model['type']} vocabulary cannot be trimmed, only {' and '.join(KINDS)} ones (BERT, DistilBERT, "
            "ELECTRA, MiniLM)"
        )
    prefix = model.get("continuing_subword_prefix", "")
    single = [i for word, i in model["vocab"].items() if len(word.removeprefix(prefix)) == 1]
    special = [token["id"] for token in parts(tokenizer)["added_tokens"]]
    return np.unique(np.concatenate([used, special, single, [model["vocab"][model["unk_token"]]]]).astype(np.int64))


def trim_tokenizer(tokenizer: PreTrainedTokenizerBase, kept: np.ndarray) -> PreTrainedTokenizerFast:
    """The same tokenizer with the kept entries alone, numbered anew in their old order.

    Args:
        kept: their ids, rising.
    """
    state, number = parts(tokenizer), {int(old): new for new, old in enumerate(kept)}
    vocabulary = state["model"]["vocab"]
    state["model"]["vocab"] = {word: number[i] for word, i in vocabulary.items() if i in number}
    for token in state["added_tokens"]:
        token["id"] = number[token["id"]]
    processor = state["post_processor"] or {}
    for part in processor.get("processors", [processor]):  # several in a "Sequence"
        if part.get("type") == "TemplateProcessing":
            for token in part["special_tokens"].values():
                token["ids"] = [number[i] for i in token["ids"]]
        for name in ("sep", "cls"):  # of BertProcessing: [token, id]
            if name in part:
                part[name][1] = number[part[name][1]]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_input_names=tokenizer.model_input_names,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        **tokenizer.special_tokens_map,
    )


def trim_model(model: PreTrainedModel, kept: np.ndarray) -> None:
    """Keep these rows of the word embeddings, in place.

    Args:
        kept: ids, rising; what they were becomes their position.
    """
    number, rows = {int(old): new for new, old in enumerate(kept)}, torch.from_numpy(kept)
    words = model.get_input_embeddings()
    padding = None if words.padding_idx is None else number.get(words.padding_idx)  # the tokenizer's may be another
    trimmed = nn.Embedding(len(kept), words.embedding_dim, padding).to(words.weight)
    with torch.no_grad():
        trimmed.weight.copy_(words.weight[rows.to(words.weight.device)])
    model.set_input_embeddings(trimmed)
    model.config.vocab_size = len(kept)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id"):
        if getattr(model.config, name, None) is not None:
            setattr(model.config, name, number.get(getattr(model.config, name)))


def parts(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """A tokenizer as its tokenizer.json has it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError("this tokenizer is not one of the tokenizers library, so its vocabulary cannot be trimmed")
    return json.loads(backend.to_str())
