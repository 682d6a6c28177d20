"""Load plain Hugging Face encoders and classifiers, and check that labels, tokenizer and length fit them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

import metakd.models.cnn_lstm  # noqa: F401  registers the architectures that transformers lacks
from metakd.data.labels import PROBLEM_TYPES, Labels
from metakd.errors import InputError


def load_config(name: str) -> PreTrainedConfig:
    """Configuration of a Hub name or folder."""
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        subfolders = sorted(file.parent.name for file in Path(name).glob("*/config.json"))
        hint = f" (its folders {subfolders} hold models)" if subfolders else ""
        if not Path(name).is_dir():
            hint = " (there is no folder of this name, so the Hub was asked)"
        raise InputError(f"no model could be loaded from {name!r}{hint}: {error}") from None


def load_classifier(name: str, labels: Labels) -> PreTrainedModel:
    """A classifier over `labels`; its head is fresh unless the checkpoint was trained for these labels.

    Raises:
        InputError: the model cannot be loaded, or is a classifier of other labels.
    """
    config = load_config(name)
    if is_classifier(config):
        trained = labels_of(config)
        if sorted(trained.names) != sorted(labels.names) or trained.problem != labels.problem:
            kinds = f" ({trained.problem} instead of {labels.problem})" if trained.problem != labels.problem else ""
            raise InputError(
                f"{name} classifies {list(trained.names)}, the task has {list(labels.names)}{kinds}; start "
                "from an encoder, or name the classes in id2label of its config.json"
            )
    else:
        set_labels(config, labels)
    try:
        # In fp32 whatever the checkpoint's type, since it may be trained.
        return AutoModelForSequenceClassification.from_pretrained(
            name, config=config, dtype=torch.float32, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise InputError(f"no model could be loaded from {name!r}: {error}") from None


def load_encoder(name: str) -> PreTrainedModel:
    """A pretrained encoder without a head, with the weights as they were saved."""
    load_config(name)
    try:
        return AutoModel.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"no model could be loaded from {name!r}: {error}") from None


def is_classifier(config: PreTrainedConfig) -> bool:
    """Whether the checkpoint holds a trained classification head."""
    return any("SequenceClassification" in kind for kind in config.architectures or [])


def set_labels(config: PreTrainedConfig, labels: Labels) -> None:
    """Set a configuration's labels."""
    config.num_labels = len(labels.names)
    config.id2label = dict(enumerate(labels.names))
    config.label2id = {name: i for i, name in enumerate(labels.names)}
    config.problem_type = PROBLEM_TYPES[labels.problem]


def labels_of(config: PreTrainedConfig) -> Labels:
    """What each logit stands for, in order."""
    kinds = {kind: problem for problem, kind in PROBLEM_TYPES.items()}
    problem = kinds.get(getattr(config, "problem_type", None) or "", "single_label")
    return Labels(tuple(config.id2label[i] for i in range(config.num_labels)), problem)


def label_order(columns: Sequence[str], wanted: Sequence[str], owner: str) -> list[int]:
    """Column of each wanted label: logits[:, order] is in the wanted order.

    Raises:
        InputError: the names are not the same set.
    """
    if sorted(columns) != sorted(wanted):
        raise InputError(
            f"{owner} has the labels {list(columns)}, the student {list(wanted)}; labels are matched by name"
        )
    return [columns.index(name) for name in wanted]


def check_tokenizer_fits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, name: str
) -> None:
    """Refuse a tokenizer whose ids, or a length whose positions, the model does not have."""
    rows = model.get_input_embeddings().num_embeddings
    largest = max(tokenizer.get_vocab().values())
    if largest >= rows:
        raise InputError(
            f"{name}: the tokenizer makes ids up to {largest}, the model has {rows} word embeddings; use the "
            "tokenizer that the model was trained with"
        )
    if tokenizer.pad_token_id is None:
        raise InputError(f"{name}: the tokenizer has no padding token; set one and save the tokenizer again")
    positions = getattr(model.config, "max_position_embeddings", None)
    for part, module in model.named_modules():
        if isinstance(module, nn.Embedding) and "position" in part and module.padding_idx is not None:
            positions = module.num_embeddings - module.padding_idx - 1  # RoBERTa and kin count from there
    if positions is not None and max_length > positions:
        raise InputError(
            f"{name} has {positions} positions, max_length is {max_length}; set max_length to {positions} or less"
        )


def layer_prefix(model: PreTrainedModel) -> str:
    """Name of the encoder's list of layers with a dot, e.g. "bert.encoder.layer."."""
    count = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name + "."
    raise InputError(f"{type(model).__name__}: no list of {count} layers was found")


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The encoder's layers, in order."""
    layers = model.get_submodule(layer_prefix(model).removesuffix("."))
    assert isinstance(layers, nn.ModuleList)
    return layers
