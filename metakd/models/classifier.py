"""Teachers and students are plain Hugging Face classifiers: load them, cut a student, check what fits."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from metakd.errors import InputError
from metakd.objectives.layer_maps import uniform

log = logging.getLogger(__name__)


def load_config(name: str) -> PreTrainedConfig:
    """Configuration of a Hub name or folder."""
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        here = "" if Path(name).is_dir() else " (no folder here has this name, so it was looked for on the Hub)"
        raise InputError(f"no model could be loaded from {name!r}{here}: {error}") from None


def load_classifier(name: str, labels: list[str]) -> PreTrainedModel:
    """A classifier over `labels` (logit i belongs to labels[i]); its head is fresh unless it was trained for them.

    Raises:
        InputError: the model cannot be loaded, or is a classifier of other labels.
    """
    config = load_config(name)
    trained = is_classifier(config)
    if trained and sorted(label_names(config)) != sorted(labels):
        raise InputError(f"{name} classifies {label_names(config)}, wanted are {labels}; start from an encoder")
    if not trained:
        config.num_labels = len(labels)
        config.id2label, config.label2id = dict(enumerate(labels)), {name: i for i, name in enumerate(labels)}
    try:
        return AutoModelForSequenceClassification.from_pretrained(name, config=config, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"no model could be loaded from {name!r}: {error}") from None


def is_classifier(config: PreTrainedConfig) -> bool:
    """Whether the checkpoint holds a trained classification head."""
    return any("SequenceClassification" in kind for kind in config.architectures or [])


def label_names(config: PreTrainedConfig) -> list[str]:
    """Label of each logit, in order."""
    return [config.id2label[i] for i in range(config.num_labels)]


def label_order(found: list[str], wanted: list[str], where: str) -> list[int]:
    """Column of each wanted label in `found`: logits[:, order] is in the wanted order.

    Raises:
        InputError: the names are not the same set.
    """
    if sorted(found) != sorted(wanted):
        raise InputError(f"{where} has the labels {found}, wanted are {wanted}; labels are matched by name")
    return [found.index(name) for name in wanted]


def check_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, name: str) -> None:
    """Refuse a tokenizer that makes ids or positions which the model does not have."""
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


def cut_student(teacher: PreTrainedModel, layers: int) -> PreTrainedModel:
    """A student of the teacher's class with fewer layers: student layer j is teacher layer j*Lt/Ls, weights copied.

    The embeddings, the head and everything else outside the layers are the teacher's too.

    Raises:
        InputError: the number of layers does not divide the teacher's.
    """
    source = [t - 1 for t, _ in uniform(teacher.config.num_hidden_layers, layers, first=1)]
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = layers
    kinds = getattr(config, "layer_types", None)  # ModernBERT alternates kinds of attention
    if kinds is not None:
        config.layer_types = [kinds[i] for i in source]
    student = AutoModelForSequenceClassification.from_config(config)
    prefix, student_prefix = layer_prefix(teacher), layer_prefix(student)
    assert prefix == student_prefix
    weights = {k: v for k, v in teacher.state_dict().items() if not k.startswith(prefix)}
    for j, i in enumerate(source):
        start = f"{prefix}{i}."
        weights |= {
            f"{prefix}{j}.{key.removeprefix(start)}": value
            for key, value in teacher.state_dict().items()
            if key.startswith(start)
        }
    missing, extra = student.load_state_dict(weights, strict=False)
    # A family may leave a norm out of its first layer, so a deeper layer in its place has one too many.
    if missing or any(not key.startswith(f"{prefix}0.") for key in extra):
        raise InputError(f"layers of {type(teacher).__name__} cannot be copied: missing {missing}, extra {extra}")
    log.info("student layers 1..%d start from teacher layers %s", layers, [i + 1 for i in source])
    return student


def layer_prefix(model: PreTrainedModel) -> str:
    """Name of the encoder's list of layers with a dot, e.g. "bert.encoder.layer."; the one place that needs it."""
    count = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name + "."
    raise InputError(f"{type(model).__name__}: no list of {count} layers was found")
