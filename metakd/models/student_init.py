"""Where a student starts: layers copied from the teacher, random weights in another width, or no transformer."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from metakd.config import BiLSTMStudent, FreshStudent, StaticStudent, StudentFromTeacher, TextCNNStudent
from metakd.data.labels import Labels
from metakd.errors import InputError
from metakd.methods.layer_maps import uniform
from metakd.models.classifier import layer_prefix, set_labels
from metakd.models.cnn_lstm import BiLSTMConfig, TextCNNConfig, copy_word_embeddings
from metakd.models.model_files import explaining, some
from metakd.models.static_words import StaticConfig, static_vectors

log = logging.getLogger(__name__)
SOURCES = {"teacher": "the trained teacher", "pretrained": "the pretrained encoder"}
SmallSpec = TextCNNStudent | BiLSTMStudent | StaticStudent
FreshSpec = FreshStudent | SmallSpec


def kept_layers(spec: StudentFromTeacher, depth: int) -> list[int]:
    """The teacher's layers that become the student's, in order, counted from 1.

    Raises:
        InputError: layers that the teacher does not have, or a number that does not divide its depth.
    """
    if isinstance(spec.layers, list):
        rising = bool(spec.layers) and sorted(set(spec.layers)) == spec.layers
        if not rising or not 1 <= spec.layers[0] <= spec.layers[-1] <= depth:
            raise InputError(f"student.layers: {spec.layers} is not a rising list of layers from 1 to {depth}")
        return spec.layers
    if not 1 <= spec.layers <= depth:
        raise InputError(f"student.layers: {spec.layers} is not between 1 and the teacher's {depth}")
    if spec.choose == "first":
        return list(range(1, spec.layers + 1))
    if spec.choose == "last":
        return list(range(depth - spec.layers + 1, depth + 1))
    if spec.choose == "uniform":
        return [t for t, _ in uniform(depth, spec.layers, first=1)]
    return [int(layer) for layer in np.linspace(1, depth, spec.layers)] if spec.layers > 1 else [depth]


def student_config(spec: StudentFromTeacher | FreshSpec, teacher: PreTrainedConfig, labels: Labels) -> PreTrainedConfig:
    """Configuration of a student on the teacher's tokenizer.

    Raises:
        InputError: sizes that the teacher's family cannot have.
    """
    if isinstance(spec, StudentFromTeacher):
        return cut_config(spec, teacher)
    config = resized_config(spec, teacher) if isinstance(spec, FreshStudent) else small_config(spec, teacher)
    set_labels(config, labels)
    return config


def cut_config(spec: StudentFromTeacher, source: PreTrainedConfig) -> PreTrainedConfig:
    """The source's configuration with fewer layers; the labels keep the source's order."""
    return with_layers(source, kept_layers(spec, source.num_hidden_layers))


def with_layers(source: PreTrainedConfig, kept: list[int]) -> PreTrainedConfig:
    config = copy.deepcopy(source)
    config.num_hidden_layers = len(kept)
    for name, values in source.to_dict().items():  # one value a layer, as ModernBERT's layer_types
        of_layers = "layer" in name or name == "attention_window"
        if of_layers and isinstance(values, list) and len(values) == source.num_hidden_layers:
            setattr(config, name, [values[(i - 1) % len(values)] for i in kept])
    return config


def resized_config(spec: FreshStudent, teacher: PreTrainedConfig) -> PreTrainedConfig:
    """The teacher's configuration in another width and depth; families name the inner width differently."""
    config = with_layers(teacher, list(range(1, spec.layers + 1)))
    heads = spec.heads or config.num_attention_heads
    if spec.hidden_size % heads:
        fitting = [n for n in range(1, spec.hidden_size + 1) if spec.hidden_size % n == 0]
        raise InputError(
            f"student: {heads} heads do not divide hidden_size {spec.hidden_size}; set heads: to one of {fitting}"
        )
    follow_width(config, spec.hidden_size, heads)
    for name in ("intermediate_size", "hidden_dim"):
        if hasattr(config, name):
            setattr(config, name, spec.intermediate_size or 4 * spec.hidden_size)
    return config


def follow_width(config: PreTrainedConfig, width: int, heads: int) -> None:
    """Set a configuration's width and heads, and the sizes of its family that equal them in the teacher.

    Examples are DeBERTa's pooler_hidden_size, an embedding_size that is no bottleneck, and num_key_value_heads.
    """
    old_width, old_heads = config.hidden_size, config.num_attention_heads
    for name, value in config.to_dict().items():
        if name == "head_dim":
            if value == old_width // old_heads:
                config.head_dim = width // heads
        elif name == "num_key_value_heads" and value == old_heads:
            config.num_key_value_heads = heads
        elif value == old_width and name.endswith(("_size", "dim", "d_model")) and "vocab" not in name:
            setattr(config, name, width)
    config.hidden_size, config.num_attention_heads = width, heads


def small_config(spec: SmallSpec, teacher: PreTrainedConfig) -> PreTrainedConfig:
    """Configuration of a student that is no transformer, with the teacher's vocabulary.

    Raises:
        InputError: static vectors that are wider than the encoder.
    """
    common = {
        "vocab_size": teacher.vocab_size,
        "pad_token_id": teacher.pad_token_id or 0,
        "dropout": spec.dropout,
        "embedding_size": spec.embedding_size or getattr(teacher, "embedding_size", teacher.hidden_size),
    }
    if isinstance(spec, StaticStudent):
        if spec.embedding_size > teacher.hidden_size:
            raise InputError(
                f"student.embedding_size is {spec.embedding_size}, but {teacher.hidden_size} components are all that "
                "the pretrained encoder's vectors have"
            )
        return StaticConfig(hidden_size=spec.hidden_size, **common)
    if isinstance(spec, TextCNNStudent):
        return TextCNNConfig(filters=spec.filters, widths=spec.widths, **common)
    return BiLSTMConfig(lstm_size=spec.lstm_size, num_hidden_layers=spec.layers, **common)


def cut_student(source: PreTrainedModel, spec: StudentFromTeacher) -> PreTrainedModel:
    """A student of the source's class that copies some of its layers and everything outside the layers."""
    kept = kept_layers(spec, source.config.num_hidden_layers)
    student = build(cut_config(spec, source.config), f"layers {kept}")
    prefix = layer_prefix(source)
    assert prefix == layer_prefix(student)
    state = source.state_dict()
    weights = {k: v for k, v in state.items() if not k.startswith(prefix)}
    for j, i in enumerate(kept):
        start = f"{prefix}{i - 1}."
        weights |= {f"{prefix}{j}.{k.removeprefix(start)}": v for k, v in state.items() if k.startswith(start)}
    # Some families have tensors outside the layers whose shape depends on their number.
    with explaining(lambda why: f"task.student: layers of {type(source).__name__} cannot be copied: {why}"):
        missing, extra = student.load_state_dict(weights, strict=False)
    # Some families have no norm in their first layer, so a deeper layer in its place has one too many.
    if missing or any(not key.startswith(f"{prefix}0.") for key in extra):
        what = f"missing are {some(missing)}" if missing else f"left over are {some(extra)}"
        raise InputError(f"task.student: layers of {type(source).__name__} cannot be copied: {what}")
    return student


def build(config: PreTrainedConfig, what: str) -> PreTrainedModel:
    """A classifier with random weights, in fp32."""
    fault = f"task.student: the {config.model_type} cannot have {what}"
    with explaining(lambda why: f"{fault}: {why}; choose other sizes, or name a pretrained student"):
        return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)


def fresh_student(
    spec: FreshSpec, pretrained: PreTrainedModel, labels: Labels, around: tuple[Sequence[int], Sequence[int]] = ((), ())
) -> PreTrainedModel:
    """A student with random weights; one that is no transformer gets word embeddings from the pretrained model.

    Args:
        around: ids of the special tokens that stand before and after a row.
    """
    student = build(student_config(spec, pretrained.config, labels), f"the sizes {spec}")
    if isinstance(spec, FreshStudent):
        log.warning(
            "NOTE: the student starts from random weights. A pretrained student of this size (task.student: a name "
            "or folder), or one from general distillation, learns far better."
        )
    elif isinstance(spec, StaticStudent):
        vectors = static_vectors(pretrained.base_model, spec.embedding_size, around)
        copy_word_embeddings(student, vectors)
    elif spec.embedding_size is None:
        copy_word_embeddings(student, pretrained.get_input_embeddings().weight.detach())
    return student


def describe_start(spec: object, depth: int) -> str:
    """The weights that a student starts from, in words.

    Args:
        spec: `Task.student`.
        depth: layers of the teacher.
    """
    if isinstance(spec, str):
        return spec
    if isinstance(spec, StudentFromTeacher):
        return f"layers {', '.join(map(str, kept_layers(spec, depth)))} of {SOURCES[spec.of]}"
    if isinstance(spec, StaticStudent):
        return f"random weights, principal components of the vectors that {SOURCES[spec.of]} gives to single tokens"
    if isinstance(spec, TextCNNStudent | BiLSTMStudent) and spec.embedding_size is None:
        return "random weights, the pretrained encoder's word embeddings"
    return "random weights"
