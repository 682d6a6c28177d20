"""A temperature inside a classifier's weights, so that whoever loads the model gets the calibrated probabilities."""

from __future__ import annotations

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
    layers = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == model.config.num_labels
        and not name.startswith(f"{model.base_model_prefix}.")
    ]
    if not layers:
        raise InputError(f"a {type(model).__name__} has no last linear layer that a temperature could go into")
    for parameter in layers[-1].parameters():
        parameter.div_(temperature)
