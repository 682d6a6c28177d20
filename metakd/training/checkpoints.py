"""Training state in one safetensors file that is replaced whole: weights, optimizer moments and progress."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from metakd.errors import name_list
from metakd.training.progress import Progress

log = logging.getLogger(__name__)


def save(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer | None, progress: dict[str, Any]) -> None:
    """Write weights, optimizer state and `progress` (JSON) at once; a kill leaves the old file or the new one.

    Args:
        optimizer: None once no step is left, since it holds twice as much as the weights.
    """
    tensors = {f"module.{name}": tensor for name, tensor in distinct_tensors(module).items()}
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    for parameter, slots in optimizer.state.items() if optimizer else ():
        for key, value in slots.items():
            tensors[f"optimizer.{names[parameter]}|{key}"] = torch.as_tensor(value)
    write(path, tensors, {"progress": json.dumps(progress)})


def resume(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Load what `save` wrote and return its progress; that of a fresh start without a file, or with a damaged one."""
    try:
        return Progress(**(restore(path, module, optimizer) or {}))
    except (SafetensorError, FileNotFoundError, ValueError, KeyError, TypeError) as error:
        log.warning("the checkpoint %s is damaged (%s); this training starts afresh", path, error)
        return Progress()


def restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Load what `save` wrote and return its progress; None where there is no file.

    All of the file, and the weights of the best epoch beside it, are checked before anything is loaded.

    Raises:
        ValueError: the weights belong to another model.
        SafetensorError, FileNotFoundError, KeyError, TypeError: the files are damaged.
    """
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        progress = json.loads(file.metadata()["progress"])
    tensors = load_file(path)
    weights = {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
    require_same_shapes(module, {name: tensor.shape for name, tensor in weights.items()})
    if (state := Progress(**progress)).best is not None:
        with safe_open(state.best_file(path.parent), "pt") as file:
            shapes = {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        require_same_shapes(module, shapes)
    parameters, moments = dict(module.named_parameters()), []
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            name, slot = key.removeprefix("optimizer.").rsplit("|", 1)
            if slot != "step" and value.shape != parameters[name].shape:
                raise ValueError(f"{key} has the shape {list(value.shape)}, not {list(parameters[name].shape)}")
            moments.append((parameters[name], slot, value))
    load_tensors(module, weights)
    for parameter, slot, value in moments:
        # A fused optimizer keeps its step count where the parameter lies, in fp32.
        optimizer.state[parameter][slot] = value.to(parameter.device)
    return progress


def distinct_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers by name; tied parameters once."""
    tensors: dict[str, Tensor] = dict(module.named_parameters())
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return tensors | {name: tensor for name, tensor in module.state_dict().items() if name not in parameters}


def require_same_shapes(module: nn.Module, shapes: Mapping[str, torch.Size]) -> None:
    """Raise ValueError unless these are the names and shapes of `distinct_tensors`."""
    wanted = {name: tensor.shape for name, tensor in distinct_tensors(module).items()}
    if different := sorted({name for name, _ in wanted.items() ^ shapes.items()}):
        raise ValueError(f"the weights belong to another model: {name_list(different)}")


def load_tensors(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Set the tensors of `distinct_tensors`."""
    require_same_shapes(module, {name: tensor.shape for name, tensor in tensors.items()})
    targets = distinct_tensors(module)
    with torch.no_grad():
        for name, tensor in tensors.items():
            targets[name].copy_(tensor)


def mean_of_files(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the tensors of several files; whole numbers are those of the first file."""
    return mean_of((load_file(path) for path in paths), len(paths))


def mean_of(states: Iterable[Mapping[str, Tensor]], count: int) -> dict[str, Tensor]:
    """The mean of so many states of a model, of which one at a time is read; whole numbers are those of the first."""
    means: dict[str, Tensor] = {}
    for state in states:
        for name, tensor in state.items():
            if not tensor.is_floating_point():
                means.setdefault(name, tensor.clone())
            elif name in means:
                means[name] += tensor.detach() / count
            else:
                means[name] = tensor.detach() / count
    return means


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary, metadata)
    temporary.replace(path)
