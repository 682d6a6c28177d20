"""What a classifier's logits stand for, and where its layers lie."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from metakd.data.labels import PROBLEM_TYPES, SCORE, Labels, ProblemType
from metakd.errors import InputError, name_list


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
    """What each logit stands for, in order. One output without a problem type is a regression, as in transformers."""
    kinds = {kind: problem for problem, kind in PROBLEM_TYPES.items()}
    default: ProblemType = "single_label" if config.num_labels > 1 else "regression"
    problem = kinds[config.problem_type] if config.problem_type else default
    if problem == "regression":
        if config.num_labels > 1:
            name = config.name_or_path or config.model_type
            raise InputError(f"{name}: a regression of {config.num_labels} outputs; only one output can be a score")
        return Labels((SCORE,), problem)
    return Labels(tuple(config.id2label[i] for i in range(config.num_labels)), problem)


def label_order(columns: Sequence[str], wanted: Labels, owner: str) -> list[int]:
    """Column of each wanted label: logits[:, order] is in the wanted order.

    Raises:
        InputError: a label has no column, or a column no label, unless the labels are those of one domain alone.
    """
    lacking = [name for name in wanted.names if name not in columns]
    if lacking or (len(columns) > len(wanted.names) and not wanted.domain):
        raise InputError(
            f"{owner} has the labels {name_list(columns)}, the student {name_list(wanted.names)}; labels are matched "
            "by name"
        )
    return [columns.index(name) for name in wanted.names]


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
