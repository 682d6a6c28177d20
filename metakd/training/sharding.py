"""Sharded training (FSDP2, through Accelerate): each process keeps its part of AdamW's moments and updates its weights.

What is sharded is a copy of the module. Its weights come back into the module after every epoch, so that scoring,
saving and the next stage meet ordinary tensors.
"""

from __future__ import annotations

import copy

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(accelerator: Accelerator) -> None:
    """Let `accelerator.prepare` shard what it is given; a process alone has nothing to share.

    Accelerate (1.15.0, AcceleratorState) turns to FSDP on accelerators alone, although torch shards on CPUs as well.
    A module is one unit, whose weights and gradients are whole during a step: its layers are not always called as a
    whole (models/first_token.py calls parts of one), as units of their own would have to be.
    """
    if accelerator.num_processes > 1:
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="no_wrap", cpu_ram_efficient_loading=False
        )
        accelerator.state.distributed_type = DistributedType.FSDP


def to_train(module: nn.Module, accelerator: Accelerator) -> nn.Module:
    """What is to be prepared and trained in place of the module: itself, unless it will be sharded."""
    return copy.deepcopy(module) if accelerator.distributed_type == DistributedType.FSDP else module


def check_sharded(model: nn.Module, accelerator: Accelerator) -> None:
    """Refuse to train whole what is to be sharded, as another version of Accelerate might: the losses would agree."""
    wanted = accelerator.distributed_type == DistributedType.FSDP
    if wanted and not all(isinstance(parameter, DTensor) for parameter in model.parameters()):
        raise RuntimeError("Accelerate has not sharded the model, although training.sharded asks for it")


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the parts of all processes, which must all call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(own: Tensor, values: Tensor) -> Tensor:
    """Whole values, in every process the same, laid out as `own` is."""
    values = values.to(own.device)
    if isinstance(own, DTensor) and values.shape == own.shape:  # an optimizer's count of steps is never sharded
        return distribute_tensor(values, own.device_mesh, own.placements)
    return values


@torch.no_grad()
def bring_back(trained: nn.Module, module: nn.Module) -> None:
    """Copy the weights of what was trained into the module that it is a copy of; all processes call this."""
    if trained is not module:
        for own, values in zip(module.parameters(), trained.parameters(), strict=True):
            own.copy_(whole(values))
