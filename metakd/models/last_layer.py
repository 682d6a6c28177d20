"""Changes of a classifier's last layer, so that whoever loads the model gets the changed probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from metakd.errors import InputError


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
        raise InputError(f"the last layer of this {type(model).__name__} has no bias that could be shifted")
    bias.add_(torch.tensor(shift, dtype=bias.dtype))


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
