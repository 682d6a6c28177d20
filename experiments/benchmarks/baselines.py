"""What people use today, on the same rows and models: TextBrewer, and the loop of EasyNLP's Meta-KD, written again.

Both pad every row to the longest length, run the teacher in every step and compute in fp32, as their scripts do.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jobs import LEARNING_RATE, STUDENT, TEMPERATURE
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from metakd.config import Training
from metakd.data.encoding import Batch, EncodedRows, model_inputs
from metakd.data.labels import Labels
from metakd.methods.layer_maps import uniform
from metakd.methods.method import Method
from metakd.methods.stage import Stage
from metakd.models.loading import load_classifier
from metakd.models.student_init import cut_student
from metakd.training.loop import parameter_groups

PaddedRows = list[dict[str, Tensor]]
TrainStage = Callable[[PreTrainedModel, PreTrainedModel, PaddedRows, Stage, Training], None]
ACTIVATIONS = {"output_hidden_states": True, "output_attentions": True}


def padded_rows(rows: EncodedRows, max_length: int, with_labels: bool = False) -> PaddedRows:
    """The model inputs of each row, padded to `max_length`, and its label if it is asked for."""
    padded = []
    for i in range(len(rows)):
        batch = rows.batch(np.array([i]))
        row = {name: F.pad(v[0], (0, max_length - v.shape[1])) for name, v in model_inputs(batch).items()}
        padded.append({**row, "labels": batch["label"][0]} if with_labels else row)
    return padded


@dataclass(frozen=True)
class BaselineJobs:
    """The jobs of `jobs.MetakdJobs` in another library. Each loads its models first, which is not timed.

    Args:
        train_stage_by: trains one stage with the library.
        teacher: folder of the teacher that metakd has trained.
        method: its stages.
        rows: of an epoch.
        whole_rows: of the whole run.
    """

    train_stage_by: TrainStage
    teacher: Path
    labels: Labels
    method: Method
    training: Training
    rows: PaddedRows
    whole_rows: PaddedRows

    def train_stage(self, number: int) -> float:
        """Train a student for an epoch of a stage, and return the seconds."""
        return self._train([replace(self.method.stages[number], epochs=1)], self.rows)[0]

    def train_student(self) -> tuple[float, PreTrainedModel]:
        """Train a student through both stages; returns the seconds and the student."""
        return self._train(self.method.stages, self.whole_rows)

    def _train(self, stages: Sequence[Stage], rows: PaddedRows) -> tuple[float, PreTrainedModel]:
        teacher = load_classifier(str(self.teacher), self.labels)
        student = cut_student(teacher, STUDENT)
        begun = time.perf_counter()
        for stage in stages:
            self.train_stage_by(student, teacher, rows, stage, self.training)
        return time.perf_counter() - begun, student


def textbrewer_stage(
    student: PreTrainedModel, teacher: PreTrainedModel, rows: PaddedRows, stage: Stage, training: Training
) -> None:
    """Train a stage with TextBrewer's GeneralDistiller.

    In the last stage it matches logits alone, so both models keep their fused attention.
    """
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

    logging.getLogger("Distillation").setLevel(logging.WARNING)
    activations = stage.needs_activations
    heads = teacher.config.num_attention_heads
    depths = teacher.config.num_hidden_layers, student.config.num_hidden_layers
    matches = [
        {"layer_T": t, "layer_S": s, "feature": "hidden", "loss": "hidden_mse", "weight": 1.0}
        for t, s in uniform(*depths, first=0)
    ] + [
        # Its loss is a sum over heads, ours a mean.
        {"layer_T": t - 1, "layer_S": s - 1, "feature": "attention", "loss": "attention_mse", "weight": 1 / heads}
        for t, s in uniform(*depths, first=1)
    ]  # fmt: skip
    config = DistillationConfig(
        temperature=TEMPERATURE, kd_loss_weight=TEMPERATURE**2, kd_loss_type="ce",
        intermediate_matches=matches if activations else None,
    )  # fmt: skip

    def adaptor(batch: Batch, output: Any) -> dict[str, Any]:
        if not activations:
            return {"logits": (output.logits,)}
        return {
            "hidden": output.hidden_states,
            "attention": output.attentions,
            "inputs_mask": batch["attention_mask"],
        }

    set_attention("eager" if activations else "sdpa", student, teacher)
    batches = shuffled(rows, training)
    optimizer = torch.optim.AdamW(parameter_groups(student, training.weight_decay), lr=stage.learning_rate)
    total = stage.epochs * len(batches)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingConfig(device="cpu", log_dir=None, output_dir=folder, ckpt_epoch_frequency=stage.epochs)
        distiller = GeneralDistiller(settings, config, teacher, student, adaptor, adaptor)
        with distiller:
            distiller.train(
                optimizer, batches, stage.epochs, scheduler_class=get_linear_schedule_with_warmup,
                scheduler_args={
                    "num_warmup_steps": round(training.warmup * total), "num_training_steps": total
                },
                max_grad_norm=training.max_grad_norm, callback=None, **(ACTIVATIONS if activations else {}),
            )  # fmt: skip


def easynlp_stage(
    student: PreTrainedModel, teacher: PreTrainedModel, rows: PaddedRows, stage: Stage, training: Training
) -> None:
    """Train a stage as the EasyNLP loop does: both models return all activations in every step of both stages."""
    set_attention("eager", student, teacher)
    pairs = uniform(teacher.config.num_hidden_layers, student.config.num_hidden_layers, first=0)
    teacher.eval()
    for batch in training_steps(student, rows, stage.learning_rate, stage.epochs, training):
        with torch.no_grad():
            target = teacher(**batch, **ACTIVATIONS)
        output = student(**batch, **ACTIVATIONS)
        if stage.needs_activations:
            hidden = [F.mse_loss(output.hidden_states[s], target.hidden_states[t]) for t, s in pairs]
            attention = [F.mse_loss(output.attentions[s - 1], target.attentions[t - 1]) for t, s in pairs if s]
            loss = torch.stack(hidden + attention).sum()
        else:
            probabilities = F.softmax(target.logits / TEMPERATURE, -1)
            loss = TEMPERATURE**2 * F.cross_entropy(output.logits / TEMPERATURE, probabilities)
        loss.backward()


def easynlp_teacher(encoder: str, labels: Labels, rows: PaddedRows, training: Training) -> float:
    """Train the teacher for an epoch as the EasyNLP loop does; returns the seconds, without loading.

    Args:
        rows: with labels.
    """
    teacher = load_classifier(encoder, labels)
    set_attention("eager", teacher)
    begun = time.perf_counter()
    for batch in training_steps(teacher, rows, LEARNING_RATE, 1, training):
        teacher(**batch).loss.backward()
    return time.perf_counter() - begun


def training_steps(
    model: PreTrainedModel, rows: PaddedRows, learning_rate: float, epochs: int, training: Training
) -> Iterator[Batch]:
    """Yield batches; after the caller has computed a batch's gradients, take an optimizer step with them."""
    batches = shuffled(rows, training)
    optimizer = torch.optim.AdamW(parameter_groups(model, training.weight_decay), lr=learning_rate)
    total = epochs * len(batches)
    schedule = get_linear_schedule_with_warmup(optimizer, round(training.warmup * total), total)
    model.train()
    for _ in range(epochs):
        for batch in batches:
            yield batch
            torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


def shuffled(rows: PaddedRows, training: Training) -> DataLoader:
    """Batches of the rows in a random order."""
    order = torch.Generator().manual_seed(training.seed)
    return DataLoader(rows, training.batch_size, shuffle=True, generator=order)  # type: ignore[arg-type]


def set_attention(implementation: str, *models: PreTrainedModel) -> None:
    """Choose an attention implementation of transformers; only "eager" returns probabilities."""
    for model in models:
        model.set_attn_implementation(implementation)
