"""Training state in one safetensors file, replaced whole: weights, optimizer moments and where the run is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from metakd.training.sharding import like, whole


def state(module: nn.Module, optimizer: torch.optim.Optimizer | None, keep: bool) -> dict[str, Tensor]:
    """Weights and optimizer state by name, whole; all processes of a sharded training call this.

    Args:
        optimizer: None once no step is left, for it holds twice as much as the weights.
        keep: whether this process wants them; one that does not never holds more than one whole tensor.
    """
    tensors = {f"module.{name}": tensor for name, tensor in own_tensors(module).items()}
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    for parameter, slots in optimizer.state.items() if optimizer else ():
        for key, value in slots.items():
            tensors[f"optimizer.{names[parameter]}|{key}"] = torch.as_tensor(value)
    found = {}
    for name, tensor in tensors.items():
        assembled = whole(tensor)
        if keep:
            found[name] = assembled.detach().cpu()
    return found


def save(path: Path, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
    """Write a `state` and `progress` (JSON) at once; a kill leaves the old file or the new one."""
    write(path, tensors, {"progress": json.dumps(progress)})


def restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Load what `save` wrote and return its progress; None where there is no file."""
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        progress = json.loads(file.metadata()["progress"])
    tensors = load_file(path)
    load_tensors(module, {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")})
    parameters = dict(module.named_parameters())
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            name, slot = key.removeprefix("optimizer.").rsplit("|", 1)
            parameter = parameters[name]
            # The step count of a fused optimizer lives where the parameter does, in fp32.
            optimizer.state[parameter][slot] = like(parameter, value)
    return progress


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers, tied ones once, as they are laid out."""
    tensors: dict[str, Tensor] = dict(module.named_parameters())
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return tensors | {name: tensor for name, tensor in module.state_dict().items() if name not in parameters}


def load_tensors(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Set what `own_tensors` gave, whole."""
    own = own_tensors(module)
    if own.keys() != tensors.keys():
        raise ValueError(f"weights of another model: {sorted(own.keys() ^ tensors.keys())[:5]}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(like(own[name], tensor))


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    temporary = path.with_name(path.name + ".partial")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary, metadata)
    temporary.replace(path)
