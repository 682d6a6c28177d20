"""Where a student starts: cut from the teacher, fresh in another width, or no transformer at all."""

from __future__ import annotations

import copy
import logging

from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from metakd.config import BiLSTMStudent, FreshStudent, StudentFromTeacher, TextCNNStudent
from metakd.data.labels import Labels
from metakd.errors import InputError
from metakd.models.classifier import layer_prefix, set_labels
from metakd.models.small import BiLSTMConfig, TextCNNConfig, copy_words
from metakd.objectives.layer_maps import uniform

log = logging.getLogger(__name__)


def kept_layers(spec: StudentFromTeacher, depth: int) -> list[int]:
    """The teacher's layers that become the student's, in order, counted from 1.

    Raises:
        InputError: layers that the teacher does not have, or a number that does not divide its depth.
    """
    if isinstance(spec.layers, list):
        if (
            not spec.layers
            or sorted(set(spec.layers)) != spec.layers
            or not 1 <= spec.layers[0] <= spec.layers[-1] <= depth
        ):
            raise InputError(f"student.layers: {spec.layers} is not a rising list of layers from 1 to {depth}")
        return spec.layers
    if not 1 <= spec.layers <= depth:
        raise InputError(f"student.layers: {spec.layers} is not between 1 and the teacher's {depth}")
    if spec.choose == "first":
        return list(range(1, spec.layers + 1))
    if spec.choose == "last":
        return list(range(depth - spec.layers + 1, depth + 1))
    return [t for t, _ in uniform(depth, spec.layers, first=1)]


def student_config(
    spec: StudentFromTeacher | FreshStudent | TextCNNStudent | BiLSTMStudent, teacher: PreTrainedConfig, labels: Labels
) -> PreTrainedConfig:
    """Configuration of a student on the teacher's tokenizer.

    Raises:
        InputError: sizes that the teacher's family cannot have.
    """
    config: PreTrainedConfig
    if isinstance(spec, TextCNNStudent | BiLSTMStudent):
        words = {
            "vocab_size": teacher.vocab_size, "pad_token_id": teacher.pad_token_id or 0, "dropout": spec.dropout,
            "embedding_size": spec.embedding_size or getattr(teacher, "embedding_size", teacher.hidden_size),
        }  # fmt: skip
        if isinstance(spec, TextCNNStudent):
            config = TextCNNConfig(filters=spec.filters, widths=spec.widths, **words)
        else:
            config = BiLSTMConfig(lstm_size=spec.lstm_size, num_hidden_layers=spec.layers, **words)
    else:
        config = copy.deepcopy(teacher)
        if isinstance(spec, FreshStudent):
            set_sizes(config, spec)
            kept = list(range(1, spec.layers + 1))
        else:
            kept = kept_layers(spec, teacher.num_hidden_layers)
        config.num_hidden_layers = len(kept)
        kinds = getattr(teacher, "layer_types", None)  # ModernBERT alternates kinds of attention
        if kinds is not None:
            config.layer_types = [kinds[(i - 1) % len(kinds)] for i in kept]
    if not isinstance(spec, StudentFromTeacher):  # one that is cut has the teacher's head, in the teacher's order
        set_labels(config, labels)
    return config


def set_sizes(config: PreTrainedConfig, spec: FreshStudent) -> None:
    """Another width in the teacher's configuration; families name the inner width differently."""
    heads = spec.heads or config.num_attention_heads
    if spec.hidden_size % heads:
        fitting = [n for n in range(1, spec.hidden_size + 1) if spec.hidden_size % n == 0]
        raise InputError(
            f"student: {heads} heads do not divide hidden_size {spec.hidden_size}; set heads: to one of {fitting}"
        )
    config.hidden_size, config.num_attention_heads = spec.hidden_size, heads
    for name in ("intermediate_size", "hidden_dim"):
        if hasattr(config, name):
            setattr(config, name, spec.intermediate_size or 4 * spec.hidden_size)


def cut_student(source: PreTrainedModel, spec: StudentFromTeacher, labels: Labels) -> PreTrainedModel:
    """A student of the source's class that keeps some of its layers, weights copied.

    The embeddings, the head and everything else outside the layers are the source's too.
    """
    kept = kept_layers(spec, source.config.num_hidden_layers)
    student = AutoModelForSequenceClassification.from_config(student_config(spec, source.config, labels))
    prefix, student_prefix = layer_prefix(source), layer_prefix(student)
    assert prefix == student_prefix
    state = source.state_dict()
    weights = {k: v for k, v in state.items() if not k.startswith(prefix)}
    for j, i in enumerate(kept):
        start = f"{prefix}{i - 1}."
        weights |= {f"{prefix}{j}.{k.removeprefix(start)}": v for k, v in state.items() if k.startswith(start)}
    missing, extra = student.load_state_dict(weights, strict=False)
    # A family may leave a norm out of its first layer, so a deeper layer in its place has one too many.
    if missing or any(not key.startswith(f"{prefix}0.") for key in extra):
        raise InputError(f"layers of {type(source).__name__} cannot be copied: missing {missing}, extra {extra}")
    log.info("student layers 1..%d start from layers %s of the %s model", len(kept), kept, spec.of)
    return student


def fresh_student(
    spec: FreshStudent | TextCNNStudent | BiLSTMStudent, pretrained: PreTrainedModel, labels: Labels
) -> PreTrainedModel:
    """A student with random weights, but for the word embeddings of one that is no transformer."""
    student = AutoModelForSequenceClassification.from_config(student_config(spec, pretrained.config, labels))
    if isinstance(spec, FreshStudent):
        log.warning(
            "NOTE: the student starts from random weights. A pretrained student of this size (task.student: a name "
            "or folder), or one distilled first with experiments/methods/general.yaml, learns far better."
        )
    elif spec.embedding_size is None:
        copy_words(student, pretrained.get_input_embeddings().weight.detach())
        log.info("the student's word embeddings start from the pretrained encoder's")
    return student
