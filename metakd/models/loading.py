"""Load configurations, tokenizers and weights: the one place through which a model comes in.

A folder is not trusted: weights are checked tensor by tensor, and whatever a library raises on a bad file becomes an
InputError that names folder, file and remedy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

import metakd.models.static_words  # noqa: F401  registers the architectures that transformers lacks, as cnn_lstm does
from metakd.data.labels import PROBLEM_TYPES, Labels
from metakd.data.tokenizers import PROBE
from metakd.errors import InputError, name_list
from metakd.models.classifier import is_classifier, labels_of, set_labels
from metakd.models.model_files import reading, refuse_pointers, some

# Of weights, and of position numbers, which some families store.
STORED_TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32")


def load_config(name: str) -> PreTrainedConfig:
    """The configuration of a Hub name or folder.

    Raises:
        InputError: it cannot be read, names labels that nobody can use, or is of quantised weights.
    """
    refuse_pointers(name)
    with reading(name, "model"):
        raw, _ = PreTrainedConfig.get_config_dict(name)
        if not raw:
            raise FileNotFoundError("config.json is missing or empty")
        check_raw_config(raw, f"{name}: config.json")
        return AutoConfig.from_pretrained(name, trust_remote_code=False)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hub name or folder. It pads on the right, as all batches here do.

    Raises:
        InputError: there is none, it cannot be read, or it has no words.
    """
    refuse_pointers(name)
    with reading(name, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        words = len(tokenizer) - len(tokenizer.all_special_ids)
        for options in ({}, {"truncation": True, "max_length": 12}):  # odd settings show only when it is used
            tokenizer(PROBE, PROBE, verbose=False, **options)
    if words < 1:
        raise InputError(
            f"{name}: the tokenizer has special tokens and no words; its vocabulary (tokenizer.json, vocab.txt, ...) "
            "is missing or empty. Copy the tokenizer's files from the model's source"
        )
    tokenizer.padding_side = "right"
    return tokenizer


def load_classifier(name: str, labels: Labels) -> PreTrainedModel:
    """A classifier over `labels` in fp32; its head is fresh unless the checkpoint was trained for these labels.

    Raises:
        InputError: the model cannot be loaded, is a classifier of other labels, or lacks tensors.
    """
    config = load_config(name)
    trained = is_classifier(config)
    if trained:
        require_labels(config, labels, name)
    else:
        set_labels(config, labels)
    refuse_encoder_decoder(config, name)
    return load_weights(AutoModelForSequenceClassification, name, config, trained)


def labels_to_load(name: str, labels: Labels) -> Labels:
    """The labels to load a model by: all that a trained classifier knows, where one domain's are kept of it."""
    if not labels.domain or not is_classifier(config := load_config(name)):
        return labels
    return Labels(labels_of(config).names, labels.problem)


def load_encoder(name: str) -> PreTrainedModel:
    """A pretrained encoder without classification head, in fp32.

    Raises:
        InputError: the model cannot be loaded, is no encoder, or lacks tensors.
    """
    config = load_config(name)
    refuse_encoder_decoder(config, name)
    return load_weights(AutoModel, name, config, trained=False)


def refuse_encoder_decoder(config: PreTrainedConfig, name: str) -> None:
    """Refuse a model that is no base of a classifier here."""
    if config.is_encoder_decoder:
        raise InputError(
            f"{name} is an encoder-decoder ({config.model_type}), whose classifier reads the decoder's last token; "
            "name an encoder or a causal model"
        )


def require_labels(config: PreTrainedConfig, labels: Labels, name: str) -> None:
    """Refuse a trained classifier of other labels."""
    own = labels_of(config)
    if sorted(own.names) != sorted(labels.names) or own.problem != labels.problem:
        kinds = f" ({own.problem} instead of {labels.problem})" if own.problem != labels.problem else ""
        raise InputError(
            f"{name} classifies {name_list(own.names)}, the task has {name_list(labels.names)}{kinds}; start "
            "from an encoder, or name the classes in id2label of its config.json"
        )


def load_weights(kind: Any, name: str, config: PreTrainedConfig, trained: bool) -> PreTrainedModel:
    """A model of an Auto class in fp32, whatever the checkpoint's type, after a check of every tensor.

    Args:
        trained: whether the checkpoint must hold the head too.
    """
    transformers_logging.set_verbosity_error()  # what transformers reports of the loading is checked below
    transformers_logging.disable_progress_bar()
    with reading(name, "model"):
        model, report = kind.from_pretrained(
            name, config=config, dtype=torch.float32, trust_remote_code=False, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    check_tensors(model, report, name, trained)
    check_stored_types(name)
    tensor = first_not_finite(model)
    if tensor is not None:
        raise InputError(f"{name}: the weights are damaged, {tensor} holds NaN or infinity; make or fetch them again")
    return model


def check_tensors(model: PreTrainedModel, report: dict[str, Any], name: str, trained: bool) -> None:
    """Refuse weights that are not those of the configuration, by transformers' own report of the loading.

    A trained classifier must hold exactly the model's tensors. Of a pretrained encoder the head is fresh; a pooler may
    be missing where nothing reads it, and a pooler or a pretraining head that the model does not have is left out.
    """
    base, prefix = model.base_model, model.base_model_prefix + "."
    parts = {tensor.split(".")[0] for tensor in base.state_dict()}

    def is_pooler(tensor: str) -> bool:
        return "pooler" in tensor.split(".")

    poolers = {tensor for tensor in model.state_dict() if is_pooler(tensor)}

    def matters(tensor: str) -> bool:
        return trained or tensor.removeprefix(prefix).split(".")[0] in parts

    missing = {tensor for tensor in report["missing_keys"] if matters(tensor)}
    unexpected = {tensor for tensor in report["unexpected_keys"] if matters(tensor)}
    differing = {tensor: shapes for tensor, *shapes in report["mismatched_keys"] if matters(tensor)}
    if model is base and poolers <= missing:  # an encoder alone: its last hidden states are read
        missing -= poolers
    if not trained and not poolers:
        unexpected = {tensor for tensor in unexpected if not is_pooler(tensor)}
    faults = []
    if missing:
        faults.append(f"{len(missing)} tensors of the model are missing: {some(missing)}")
    if unexpected:
        faults.append(f"{len(unexpected)} tensors have no place in the model: {some(unexpected)}")
    for tensor, (in_file, in_model) in sorted(differing.items())[:1]:
        faults.append(f"{tensor} has the shape {list(in_file)}, config.json makes it {list(in_model)}")
    if not faults:
        return
    remedy = "make or fetch the folder again, or correct config.json"
    if not trained and missing and poolers == missing and len(faults) == 1:
        remedy = (
            "a classifier of this family reads the pooler. Start from a checkpoint with one, or save a random one with "
            "it: AutoModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        )
    raise InputError(f"{name}: the weights are not those that config.json describes; {'; '.join(faults)}; {remedy}")


def check_stored_types(name: str) -> None:
    """Refuse weights that are stored as whole numbers or otherwise compressed; they would be taken for weights."""
    for file in sorted(Path(name).glob("model*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            types = {key: tensors.get_slice(key).get_dtype() for key in tensors.keys()}  # noqa: SIM118
        odd = [f"{key} ({kind})" for key, kind in types.items() if kind not in STORED_TYPES]
        if odd:
            raise InputError(
                f"{file}: {some(odd)} has a type that no weights have; name the full model, not a quantised one"
            )


def first_not_finite(module: nn.Module) -> str | None:
    """The name of the first parameter or saved buffer that holds NaN or infinity; None if all are finite."""
    for name, tensor in module.state_dict().items():
        # The sum shows NaN and infinity in one pass; only where it does, every number is looked at.
        if not bool(tensor.sum().isfinite()) and not bool(tensor.isfinite().all()):
            return name
    return None


def check_raw_config(raw: dict[str, Any], place: str) -> None:
    """Refuse label names that are no names, problem types that nobody knows, and quantised weights.

    Args:
        raw: the content of a config.json; transformers corrects some faults in silence.
    """
    if raw.get("quantization_config"):
        raise InputError(f"{place} is of quantised weights, which cannot be trained or compared; name the full model")
    kinds = raw.get("architectures") or []
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise InputError(f"{place}: architectures is {kinds!r}; it must be a list of class names, or left out")
    problem = raw.get("problem_type")
    if problem is not None and problem not in PROBLEM_TYPES.values():
        raise InputError(f"{place}: problem_type is {problem!r}; it must be one of {list(PROBLEM_TYPES.values())}")
    names = raw.get("id2label")
    if names is None:
        return
    example = 'e.g. {"0": "negative", "1": "positive"}'
    shown = some(names) if isinstance(names, list | dict) else repr(names)
    if not isinstance(names, dict) or not names or sorted(map(str, names)) != sorted(map(str, range(len(names)))):
        raise InputError(f"{place}: id2label has {shown}; it must map each number from 0 on to a name, {example}")
    values = list(names.values())
    if not all(isinstance(value, str) and value for value in values):
        raise InputError(f"{place}: id2label names {some(map(repr, values))}; every name must be text, {example}")
    if len(set(values)) != len(values):
        raise InputError(f"{place}: id2label names {some(values)}, some of them twice; each class needs its own name")
    numbers = {str(number): name for name, number in (raw.get("label2id") or {}).items()}
    if set(numbers.values()) == set(values) and numbers != {str(number): name for number, name in names.items()}:
        raise InputError(f"{place}: label2id and id2label give the classes different numbers; make them agree")
