"""The training loop: teachers and every stage of every method go through `fit`.

A loss arrives as one number per row. The loop weighs the rows and divides once, by the sum of the weights
of the whole optimizer step, over all processes and micro-batches; so 1 process, 2 processes and gradient
accumulation compute the same step. Dropout is seeded by step, the order of rows by epoch: a run that goes
on from a checkpoint needs no random state.
"""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from metakd.config import Training
from metakd.data.batches import micro_batches, plan_epoch
from metakd.data.encoding import EncodedRows
from metakd.training import checkpoints
from metakd.training.progress import Progress, best_file, describe, finish_epoch, record_step
from metakd.training.runtime import seed_everything
from metakd.training.sharding import bring_back, check_sharded, to_train
from metakd.training.tuning import tuned

log = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.safetensors"


class Problem:
    """What `fit` needs to know: a module whose forward gives one loss per row and term, and its inputs.

    Args:
        objective: forward(*inputs) -> {term: losses per row [B]}.
        rows: the training rows.
        scales: factor of each term.
        weights: row weights of each term [n].

    Attributes:
        norms: what each row adds to its term's denominator [n]: its weight, unless a problem says otherwise.
        share: of the steps that are done, 0 to 1.
    """

    def __init__(
        self,
        objective: nn.Module,
        rows: EncodedRows,
        scales: dict[str, float],
        weights: dict[str, np.ndarray],
    ) -> None:
        self.objective, self.rows, self.scales, self.weights = objective, rows, scales, weights
        self.norms, self.share = dict(weights), 0.0

    def start_epoch(self, steps: list[np.ndarray], generator: np.random.Generator) -> None:
        """Called before each epoch with the rows of each step, for what is drawn anew."""

    def inputs(self, rows: np.ndarray, device: torch.device) -> tuple[Any, ...]:
        """Arguments of the objective's forward for these rows."""
        raise NotImplementedError

    def score(self) -> dict[str, float] | None:
        """Dev scores after an epoch; "score" decides which epoch is best. None: the last epoch is."""
        return None


def fit(
    problem: Problem,
    accelerator: Accelerator,
    epochs: int,
    learning_rate: float,
    training: Training,
    folder: Path,
) -> Progress:
    """Train, and leave the best epoch's weights in the objective; goes on from the checkpoint in `folder`.

    Args:
        folder: for the checkpoint and the best weights, needed until the result is saved.
    """
    problem.objective.to(accelerator.device)
    with tuned(problem.objective, problem.rows, accelerator.device):
        return run_epochs(problem, accelerator, epochs, learning_rate, training, folder)


def run_epochs(
    problem: Problem,
    accelerator: Accelerator,
    epochs: int,
    learning_rate: float,
    training: Training,
    folder: Path,
) -> Progress:
    """What `fit` does, with a module in the form in which it is trained."""
    objective, trained = problem.objective, to_train(problem.objective, accelerator)
    optimizer: Any = torch.optim.AdamW(
        parameter_groups(trained, training.weight_decay),
        lr=learning_rate,
        fused=accelerator.device.type in ("cpu", "cuda"),
    )
    model, optimizer = accelerator.prepare(trained, optimizer)
    check_sharded(model, accelerator)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    progress = Progress(**(checkpoints.restore(folder / CHECKPOINT, trained, optimizer.optimizer) or {}))
    bring_back(trained, objective)
    per_epoch = len(plan_epoch(problem.rows.lengths, training.batch_size, training.seed, 0))
    total, saved = epochs * per_epoch, time.monotonic()
    quiet = not accelerator.is_main_process
    with tqdm(total=total, initial=progress.step, disable=quiet or None, mininterval=1.0, unit="step") as bar:
        while progress.step < total:
            epoch, position = divmod(progress.step, per_epoch)
            steps = plan_epoch(problem.rows.lengths, training.batch_size, training.seed, epoch)
            problem.start_epoch(steps, np.random.default_rng([training.seed, epoch, 1]))
            model.train()
            for rows in steps[position:]:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * schedule(progress.step, total, training.warmup)
                problem.share = progress.step / max(1, total - 1)
                losses = train_step(problem, model, optimizer, accelerator, rows, training, progress.step)
                record_step(progress, problem.scales, losses)
                bar.update()
                bar.set_postfix(epoch=epoch + 1, loss=f"{progress.losses[-1]:.4f}")
                if progress.step % per_epoch and due(saved, training.checkpoint_seconds, accelerator):
                    save(folder, trained, optimizer.optimizer, progress, accelerator)
                    saved = time.monotonic()
            bring_back(trained, objective)
            if finish_epoch(progress, problem.score(), per_epoch) and accelerator.is_main_process:
                checkpoints.write(best_file(folder, progress), checkpoints.own_tensors(objective))
            log.info("%s", describe(progress.epochs[-1]))
            finished = progress.step == total
            if finished or due(saved, training.checkpoint_seconds, accelerator):
                save(folder, trained, None if finished else optimizer.optimizer, progress, accelerator)
                saved = time.monotonic()
    accelerator.wait_for_everyone()
    if progress.best is not None:
        checkpoints.load_tensors(objective, load_file(best_file(folder, progress)))
    accelerator.wait_for_everyone()  # all have read before anyone removes the folder
    accelerator.free_memory()
    return progress


def train_step(
    problem: Problem,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    rows: np.ndarray,
    training: Training,
    step: int,
) -> dict[str, float]:
    """One optimizer step over these rows; returns each term's weighted mean over all of them."""
    denominators = {name: max(float(norms[rows].sum()), 1e-12) for name, norms in problem.norms.items()}
    parts = micro_batches(rows, training.micro_batch_size, accelerator.process_index, accelerator.num_processes)
    sums: dict[str, Tensor] = {}
    for number, (chosen, valid) in enumerate(parts):
        seed_everything(training.seed, step, number, accelerator.process_index)
        last = number == len(parts) - 1
        with nullcontext() if last else accelerator.no_sync(model):
            with accelerator.autocast():
                inputs = problem.inputs(chosen, accelerator.device)
                values = weighted_sums(model(*inputs), problem.weights, chosen, valid)
            loss = sum(
                (problem.scales[name] / denominators[name] * value for name, value in values.items()),
                torch.zeros((), device=accelerator.device),
            )
            # DistributedDataParallel averages gradients over processes; the loss is a sum over them.
            accelerator.backward(loss * accelerator.num_processes)
        for name, value in values.items():
            sums[name] = sums.get(name, 0) + value.detach()
    accelerator.clip_grad_norm_(model.parameters(), training.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    names = list(sums)
    totals = accelerator.reduce(torch.stack([sums[name] for name in names]), "sum").tolist()
    return {name: total / denominators[name] for name, total in zip(names, totals, strict=True)}


def weighted_sums(
    losses: dict[str, Tensor], weights: dict[str, np.ndarray], rows: np.ndarray, valid: np.ndarray
) -> dict[str, Tensor]:
    """Sum over rows of weight times loss, per term."""
    return {
        name: (values * torch.as_tensor(weights[name][rows] * valid, dtype=values.dtype, device=values.device)).sum()
        for name, values in losses.items()
    }


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, vectors (biases, norms) do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def schedule(step: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate: rises linearly over the first `warmup` of the steps, then falls to 0."""
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    return (total - step) / max(1, total - rising)


def due(last: float, seconds: float, accelerator: Accelerator) -> bool:
    """Whether it is time for a checkpoint; the first process decides for all."""
    answer = torch.tensor(float(time.monotonic() - last >= seconds), device=accelerator.device)
    return bool(broadcast(answer).item())


def save(
    folder: Path,
    trained: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    progress: Progress,
    accelerator: Accelerator,
) -> None:
    tensors = checkpoints.state(trained, optimizer, accelerator.is_main_process)
    if not accelerator.is_main_process:
        return
    checkpoints.save(folder / CHECKPOINT, tensors, asdict(progress))
    for old in folder.glob("best-*.safetensors"):  # no checkpoint names them any more
        if progress.best is None or old != best_file(folder, progress):
            old.unlink()
