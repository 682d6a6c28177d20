"""Changes of a classifier's last layer, so that whoever loads the model gets the changed probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from metakd.data.labels import Labels
from metakd.errors import InputError
from metakd.models.classifier import label_order, labels_of, set_labels


@torch.no_grad()
def divide_logits(model: PreTrainedModel, temperature: float) -> None:
    """Divide a classifier's logits by a temperature: its last linear layer is divided.

    Raises:
        InputError: the model's logits do not come from a linear layer of their own.
    """
    for parameter in last_layer(model).parameters():
        parameter.div_(temperature)


@torch.no_grad()
def shift_logits(model: PreTrainedModel, shift: Sequence[float]) -> None:
    """Add a number to each of a classifier's logits: its last layer's bias is shifted.

    Args:
        shift: a number per class.

    Raises:
        InputError: the model's logits do not come from a linear layer of their own, or from one without a bias.
    """
    bias = last_layer(model).bias
    if bias is None:
        raise InputError(
            f"the last layer of this {type(model).__name__} has no bias that could be shifted; use another classifier"
        )
    bias.add_(bias.new_tensor(shift))


@torch.no_grad()
def keep_outputs(model: PreTrainedModel, labels: Labels) -> None:
    """Leave a classifier the logits of a domain's own classes alone, in their order; else it keeps what it has.

    Its probabilities of these classes keep their ratios.

    Raises:
        InputError: the model lacks a class, or its logits do not come from a linear layer of their own.
    """
    known = labels_of(model.config)
    order = label_order(known.names, labels, model.name_or_path or f"this {type(model).__name__}")
    if not labels.domain or known.names == labels.names:
        return
    layer = last_layer(model)
    layer.weight = nn.Parameter(layer.weight[order])
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias[order])
    layer.out_features = len(order)
    set_labels(model.config, labels)
    model.num_labels = len(order)  # some families compute their loss by it


def require_logits(found: np.ndarray, wanted: np.ndarray, folder: str) -> None:
    """Refuse a model whose logits are not what a change of its last layer should have made of them."""
    if not np.allclose(found, wanted, rtol=1e-3, atol=1e-4):
        raise InputError(f"{folder}: its last layer alone does not give its logits, so it cannot be changed there")


def last_layer(model: PreTrainedModel) -> nn.Linear:
    """The linear layer that a classifier's logits come from."""
    layers = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == model.config.num_labels
        and not name.startswith(f"{model.base_model_prefix}.")
    ]
    if not layers:
        raise InputError(f"a {type(model).__name__} has no last linear layer of its own that could be changed")
    return layers[-1]
