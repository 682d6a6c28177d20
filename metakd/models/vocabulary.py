"""Cut a trained classifier's vocabulary down to its task: word embeddings are most of a small model's weights."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from metakd.errors import InputError

# Vocabularies whose tokens do not depend on one another; byte-pair encoding merges each token from smaller ones.
TRIMMABLE = ("WordPiece", "WordLevel")
SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id")


def ids_to_keep(tokenizer: PreTrainedTokenizerBase, used: np.ndarray) -> np.ndarray:
    """Ids of the used tokens, the special tokens and the single characters, in rising order.

    WordPiece takes the longest token that fits, so texts of used tokens are split as before. Single characters (at
    the start of a word and inside it) spell the words whose tokens are gone.

    Args:
        used: ids that the rows of the task need.

    Raises:
        InputError: tokens of this kind of vocabulary cannot be removed one by one.
    """
    state = tokenizer_state(tokenizer)
    model = state["model"]
    if model["type"] not in TRIMMABLE:
        raise InputError(
            f"a {model['type']} vocabulary cannot be trimmed, only {' and '.join(TRIMMABLE)} ones (BERT, DistilBERT, "
            "ELECTRA, MiniLM)"
        )
    prefix = model.get("continuing_subword_prefix", "")
    characters = [i for token, i in model["vocab"].items() if len(token.removeprefix(prefix)) == 1]
    special = [token["id"] for token in state["added_tokens"]] + [model["vocab"][model["unk_token"]]]
    return np.unique(np.concatenate([used, special, characters]).astype(np.int64))


def trim_tokenizer(tokenizer: PreTrainedTokenizerBase, kept_ids: np.ndarray) -> PreTrainedTokenizerFast:
    """A tokenizer of the kept tokens only, whose ids are their positions in `kept_ids` (rising)."""
    state, new_id = tokenizer_state(tokenizer), new_ids(kept_ids)
    vocabulary = state["model"]["vocab"]
    state["model"]["vocab"] = {token: new_id[i] for token, i in vocabulary.items() if i in new_id}
    for token in state["added_tokens"]:
        token["id"] = new_id[token["id"]]
    post_processor = state["post_processor"] or {}
    for processor in post_processor.get("processors", [post_processor]):  # a "Sequence" has several
        if processor.get("type") == "TemplateProcessing":
            for token in processor["special_tokens"].values():
                token["ids"] = [new_id[i] for i in token["ids"]]
        for name in ("sep", "cls"):  # of BertProcessing: [token, id]
            if name in processor:
                processor[name][1] = new_id[processor[name][1]]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_input_names=tokenizer.model_input_names,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        **tokenizer.special_tokens_map,
    )


def trim_model(model: PreTrainedModel, kept_ids: np.ndarray) -> None:
    """Keep these rows of the word embeddings, in place; the new ids are positions in `kept_ids` (rising)."""
    new_id = new_ids(kept_ids)
    words = model.get_input_embeddings()
    padding = None if words.padding_idx is None else new_id.get(words.padding_idx)  # may differ from the tokenizer's
    trimmed = nn.Embedding(len(kept_ids), words.embedding_dim, padding).to(words.weight)
    with torch.no_grad():
        trimmed.weight.copy_(words.weight[torch.from_numpy(kept_ids).to(words.weight.device)])
    model.set_input_embeddings(trimmed)
    model.config.vocab_size = len(kept_ids)
    for name in SPECIAL_IDS:
        if getattr(model.config, name, None) is not None:
            setattr(model.config, name, new_id.get(getattr(model.config, name)))


def new_ids(kept_ids: np.ndarray) -> dict[int, int]:
    """The new id of each kept id."""
    return {int(old): new for new, old in enumerate(kept_ids)}


def tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The content of a tokenizer's tokenizer.json."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError("this tokenizer is not one of the tokenizers library, so its vocabulary cannot be trimmed")
    return json.loads(backend.to_str())
