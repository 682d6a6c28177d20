"""The training loop: teachers and every stage of every method go through `fit`.

A loss is one number per row. The loop weights the rows and divides once, by a denominator over the whole optimizer
step: all processes and micro-batches together. So 1 process, 2 processes and gradient accumulation compute the same
step. Dropout is seeded by step and the order of rows by epoch, so a resumed run needs no random state.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LinearLR, LRScheduler, SequentialLR
from tqdm import tqdm

from metakd.config import Budget, Training
from metakd.cpu.tuning import tuned
from metakd.data.batches import (
    micro_batches,
    plan_epoch,
    plan_epoch_by_tokens,
    steps_by_tokens,
    steps_per_epoch,
)
from metakd.training import checkpoints
from metakd.training.progress import Progress, epoch_line
from metakd.training.runtime import seed_everything

log = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.safetensors"


class TrainingRows(Protocol):
    """What the loop asks of training rows: their number, tokens per row [n] and, on a CPU, the token ids that occur."""

    @property
    def lengths(self) -> np.ndarray: ...
    def __len__(self) -> int: ...
    def used_ids(self) -> np.ndarray: ...


class TrainingJob:
    """What `fit` trains: an objective whose forward gives one loss per row and term, its rows and their weights.

    Args:
        objective: forward(*inputs) -> {term: losses per row [B]}.
        rows: the training rows.
        scales: factor of each term.
        weights: weight of each row in each term [n].
        denominators: what each row adds to each term's denominator [n]: its weight, or 1 to divide by the rows.

    Attributes:
        progress: fraction of the optimizer steps completed, 0 to 1.
        keeps_best: whether the epoch with the best dev score is saved; else the last is.
        dropout: whether the model's dropout is on.
    """

    keeps_best = True
    dropout = True

    def __init__(
        self,
        objective: nn.Module,
        rows: TrainingRows,
        scales: dict[str, float],
        weights: dict[str, np.ndarray],
        denominators: dict[str, np.ndarray],
    ) -> None:
        self.objective, self.rows, self.scales = objective, rows, scales
        self.weights, self.denominators = weights, denominators
        self.progress = 0.0

    def start_epoch(self, steps: list[np.ndarray], generator: np.random.Generator) -> None:
        """Called before each epoch with the rows of each step, to draw what changes by epoch."""

    def inputs(self, rows: np.ndarray, device: torch.device) -> tuple[Any, ...]:
        """Arguments of the objective's forward for these rows."""
        raise NotImplementedError

    def score(self) -> dict[str, float] | None:
        """Dev scores after an epoch, the one that epochs are compared by as "score"; None without dev rows."""
        return None


def steps_of_epoch(lengths: np.ndarray, training: Training) -> int:
    """Optimizer steps of an epoch over rows of these lengths [n]."""
    if training.max_tokens is not None:
        return steps_by_tokens(lengths, training.max_tokens)
    return steps_per_epoch(len(lengths), training.batch_size)


def rows_of_steps(lengths: np.ndarray, training: Training, epoch: int) -> list[np.ndarray]:
    """The row numbers of each optimizer step of an epoch."""
    if training.max_tokens is not None:
        return plan_epoch_by_tokens(lengths, training.max_tokens, training.seed, epoch)
    return plan_epoch(lengths, training.batch_size, training.seed, epoch)


def epochs_of(budget: Budget, lengths: np.ndarray, training: Training, name: str) -> int:
    """The epochs of a stage or teacher on rows of these lengths [n]: its `epochs`, or more until it has `min_steps`."""
    epochs = max(budget.epochs, math.ceil(budget.min_steps / steps_of_epoch(lengths, training)))
    if epochs > budget.epochs:
        log.info("%s: %d epochs, since %d make fewer than %d steps", name, epochs, budget.epochs, budget.min_steps)
    return epochs


def fit(
    job: TrainingJob,
    accelerator: Accelerator,
    epochs: int,
    learning_rate: float,
    training: Training,
    folder: Path,
    name: str = "training",
) -> Progress:
    """Train the job's objective and leave the chosen epoch's weights in it; resumes from the checkpoint in `folder`.

    Args:
        folder: for the checkpoint and the best weights, needed until the result is saved.
        name: prefix of what is sent to trackers.
    """
    job.objective.to(accelerator.device)
    with tuned(job.objective, accelerator.device, training.cpu_tuning, job.rows):
        return run_epochs(job, accelerator, epochs, learning_rate, training, folder, name)


def run_epochs(
    job: TrainingJob,
    accelerator: Accelerator,
    epochs: int,
    learning_rate: float,
    training: Training,
    folder: Path,
    name: str,
) -> Progress:
    """`fit`, for an objective in the form in which it is trained."""
    objective = job.objective
    per_epoch = steps_of_epoch(job.rows.lengths, training)
    total, last_save = epochs * per_epoch, time.monotonic()
    plain_optimizer = torch.optim.AdamW(
        parameter_groups(objective, training.weight_decay),
        lr=learning_rate,
        fused=accelerator.device.type in ("cpu", "cuda"),
    )
    model, optimizer = accelerator.prepare(objective, plain_optimizer)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    progress = checkpoints.resume(folder / CHECKPOINT, objective, plain_optimizer)
    schedule = learning_rates(plain_optimizer, training.schedule, total, training.warmup, progress.step)
    show_bar = accelerator.is_main_process
    with tqdm(total=total, initial=progress.step, disable=None if show_bar else True, mininterval=1.0) as bar:
        while progress.step < total:
            epoch, position = divmod(progress.step, per_epoch)
            steps = rows_of_steps(job.rows.lengths, training, epoch)
            job.start_epoch(steps, np.random.default_rng([training.seed, epoch, 1]))
            model.train(job.dropout)
            for rows in steps[position:]:
                job.progress = progress.step / max(1, total - 1)
                losses = train_step(job, model, optimizer, accelerator, rows, training, progress.step)
                progress.record_step(job.scales, losses)
                track(accelerator, name, {**losses, "learning_rate": float(schedule.get_last_lr()[0])}, progress.step)
                schedule.step()
                bar.update()
                bar.set_postfix(epoch=epoch + 1, loss=f"{progress.losses[-1]:.4f}")
                if progress.step % per_epoch and checkpoint_due(last_save, training.checkpoint_seconds, accelerator):
                    save_checkpoint(folder, objective, plain_optimizer, progress, accelerator)
                    last_save = time.monotonic()
            keeps_best = job.keeps_best and training.average_last == 1
            if progress.finish_epoch(job.score(), per_epoch, keeps_best) and accelerator.is_main_process:
                checkpoints.write(progress.best_file(folder), checkpoints.distinct_tensors(objective))
            if epoch >= epochs - training.average_last and training.average_last > 1 and accelerator.is_main_process:
                checkpoints.write(folder / f"epoch-{epoch + 1}.safetensors", checkpoints.distinct_tensors(objective))
            log.info("%s", epoch_line(progress.epochs[-1]))
            track(accelerator, f"{name}/dev", progress.epochs[-1].get("dev", {}), progress.step)
            finished = progress.step == total
            if finished or checkpoint_due(last_save, training.checkpoint_seconds, accelerator):
                save_checkpoint(folder, objective, None if finished else plain_optimizer, progress, accelerator)
                last_save = time.monotonic()
    accelerator.wait_for_everyone()
    if progress.best is not None:
        checkpoints.load_tensors(objective, load_file(progress.best_file(folder)))
    elif training.average_last > 1:
        last = range(max(1, epochs - training.average_last + 1), epochs + 1)
        files = [folder / f"epoch-{number}.safetensors" for number in last]
        checkpoints.load_tensors(objective, checkpoints.mean_of_files(files))
    accelerator.wait_for_everyone()  # all processes have read the file before anyone removes the folder
    accelerator.free_memory()
    return progress


def train_step(
    job: TrainingJob,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    rows: np.ndarray,
    training: Training,
    step: int,
) -> dict[str, float]:
    """One optimizer step over these rows; returns each term's weighted sum over its denominator."""
    denominators = {name: max(float(values[rows].sum()), 1e-12) for name, values in job.denominators.items()}
    batches = micro_batches(rows, training.micro_batch_size, accelerator.process_index, accelerator.num_processes)
    sums: dict[str, Tensor] = {}
    for number, (chosen, valid) in enumerate(batches):
        seed_everything(training.seed, step, number, accelerator.process_index)
        last = number == len(batches) - 1
        with nullcontext() if last else accelerator.no_sync(model):
            with accelerator.autocast():
                values = weighted_sums(model(*job.inputs(chosen, accelerator.device)), job.weights, chosen, valid)
            loss = sum(
                (job.scales[name] / denominators[name] * value for name, value in values.items()),
                torch.zeros((), device=accelerator.device),
            )
            # DistributedDataParallel averages gradients over processes; the loss is a sum over them.
            accelerator.backward(loss * accelerator.num_processes)
        for name, value in values.items():
            sums[name] = sums.get(name, 0) + value.detach()
    if training.max_grad_norm:
        accelerator.clip_grad_norm_(model.parameters(), training.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    names = list(sums)
    totals = accelerator.reduce(torch.stack([sums[name] for name in names]), "sum").tolist()
    return {name: total / denominators[name] for name, total in zip(names, totals, strict=True)}


def weighted_sums(
    losses: dict[str, Tensor], weights: dict[str, np.ndarray], rows: np.ndarray, valid: np.ndarray
) -> dict[str, Tensor]:
    """Sum over rows of weight times loss, by term."""
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


def learning_rates(
    optimizer: torch.optim.Optimizer, kind: str, total: int, warmup: float, completed: int = 0
) -> LRScheduler:
    """The learning rate rises linearly over the first `warmup` of the steps, then falls.

    Args:
        kind: "linear" falls to zero; "inverse_sqrt" with the square root of the step (Vaswani et al. 2017, section
            5.3; in fairseq's form, where the highest rate is the optimizer's).
        total: optimizer steps.
        completed: steps that an earlier run has taken.
    """
    rising = round(warmup * total)
    if kind == "linear":
        schedule: LRScheduler = LinearLR(optimizer, 1.0, 0.0, max(1, total - rising))
    else:
        schedule = LambdaLR(optimizer, lambda step: math.sqrt(max(1, rising) / (max(1, rising) + step)))
    if rising:
        warm_up = LinearLR(optimizer, 1 / rising, 1.0, max(1, rising - 1))
        schedule = SequentialLR(optimizer, [warm_up, schedule], milestones=[rising])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimizer took these steps in an earlier run
        for _ in range(completed):
            schedule.step()
    return schedule


def checkpoint_due(last: float, seconds: float, accelerator: Accelerator) -> bool:
    """Whether it is time for a checkpoint; the first process decides for all."""
    answer = torch.tensor(float(time.monotonic() - last >= seconds), device=accelerator.device)
    return bool(broadcast(answer).item())


def save_checkpoint(
    folder: Path,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    progress: Progress,
    accelerator: Accelerator,
) -> None:
    if not accelerator.is_main_process:
        return
    checkpoints.save(folder / CHECKPOINT, objective, optimizer, asdict(progress))
    for old in folder.glob("best-*.safetensors"):  # epochs that the checkpoint no longer names
        if progress.best is None or old != progress.best_file(folder):
            old.unlink()


def track(accelerator: Accelerator, name: str, values: dict[str, float], step: int) -> None:
    """Send values to the trackers."""
    if accelerator.trackers and values:
        accelerator.log({f"{name}/{key}": value for key, value in values.items()}, step=step)
