"""What people use today, on the same rows and models: TextBrewer, and the computation of the released Meta-KD loop."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from metakd.data.encoding import Batch, EncodedRows, model_inputs
from metakd.methods import Stage
from metakd.models.attention import enable
from metakd.models.views import view
from metakd.objectives.layer_maps import uniform
from metakd.objectives.terms import bind, needs, rows_loss
from metakd.training.loop import parameter_groups

TEMPERATURE = 2.0


def fixed_rows(rows: EncodedRows, max_length: int) -> list[dict[str, Tensor]]:
    """Each row padded to the same length, as the scripts of both do it."""
    found = []
    for i in range(len(rows)):
        inputs = model_inputs(rows.select(np.array([i])).batch(np.array([0])))
        found.append({k: F.pad(v[0], (0, max_length - v.shape[1])) for k, v in inputs.items()})
    return found


def labelled(rows: list[dict[str, Tensor]], labels: Any) -> list[dict[str, Tensor]]:
    return [{**row, "labels": torch.tensor(int(label))} for row, label in zip(rows, labels, strict=True)]


def loader(rows: list[dict[str, Tensor]], batch_size: int, seed: int) -> DataLoader:
    return DataLoader(rows, batch_size, shuffle=True, generator=torch.Generator().manual_seed(seed))  # type: ignore[arg-type]


def textbrewer(
    student: PreTrainedModel, teacher: PreTrainedModel, rows: list[dict[str, Tensor]], stage: Stage, epochs: int,
    batch_size: int, seed: int,
) -> None:  # fmt: skip
    """A stage by its GeneralDistiller: the teacher runs in every step, in fp32.

    In the last stage it matches logits alone, so that both models keep their fused attention.
    """
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

    logging.getLogger("Distillation").setLevel(logging.WARNING)
    inner = stage.needs_inside
    heads = teacher.config.num_attention_heads
    depth, layers = teacher.config.num_hidden_layers, student.config.num_hidden_layers
    matches = [
        {"layer_T": t, "layer_S": s, "feature": "hidden", "loss": "hidden_mse", "weight": 1.0}
        for t, s in uniform(depth, layers, first=0)
    ] + [
        {"layer_T": t - 1, "layer_S": s - 1, "feature": "attention", "loss": "attention_mse", "weight": 1 / heads}
        for t, s in uniform(depth, layers, first=1)
    ]  # fmt: skip
    # The weight makes the mean over heads of what it sums.
    config = DistillationConfig(
        temperature=TEMPERATURE, kd_loss_weight=TEMPERATURE**2, kd_loss_type="ce",
        intermediate_matches=matches if inner else None,
    )  # fmt: skip

    def adaptor(batch: Batch, output: Any) -> dict[str, Any]:
        if not inner:
            return {"logits": (output.logits,)}
        return {
            "hidden": output.hidden_states,
            "attention": output.attentions,
            "inputs_mask": batch["attention_mask"],
        }

    set_attention(inner, student, teacher)
    batches = loader(rows, batch_size, seed)
    optimizer = torch.optim.AdamW(parameter_groups(student, 0.01), lr=stage.learning_rate)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingConfig(device="cpu", log_dir=None, output_dir=folder, ckpt_epoch_frequency=epochs)
        distiller = GeneralDistiller(settings, config, teacher, student, adaptor, adaptor)
        options = {"output_hidden_states": True, "output_attentions": True} if inner else {}
        total = epochs * len(batches)
        with distiller:
            distiller.train(
                optimizer, batches, epochs, scheduler_class=get_linear_schedule_with_warmup,
                scheduler_args={"num_warmup_steps": round(0.1 * total), "num_training_steps": total},
                max_grad_norm=1.0, callback=None, **options,
            )  # fmt: skip


def released(
    student: PreTrainedModel, teacher: PreTrainedModel, rows: list[dict[str, Tensor]], stage: Stage, epochs: int,
    batch_size: int, seed: int,
) -> None:  # fmt: skip
    """A stage by what the released loop computes: both models show all they have in every step of both stages."""
    set_attention(True, student, teacher)
    pairs = uniform(teacher.config.num_hidden_layers, student.config.num_hidden_layers, first=0)
    options = {"output_hidden_states": True, "output_attentions": True}
    teacher.eval()
    for batch in steps(student, rows, stage.learning_rate, epochs, batch_size, seed):
        with torch.no_grad():
            theirs = teacher(**batch, **options)
        ours = student(**batch, **options)
        if stage.needs_inside:
            hidden = [F.mse_loss(ours.hidden_states[s], theirs.hidden_states[t]) for t, s in pairs]
            scores = [F.mse_loss(ours.attentions[s - 1], theirs.attentions[t - 1]) for t, s in pairs if s]
            loss = torch.stack(hidden + scores).sum()
        else:
            target = F.softmax(theirs.logits / TEMPERATURE, -1)
            loss = TEMPERATURE**2 * F.cross_entropy(ours.logits / TEMPERATURE, target)
        loss.backward()


def released_teacher(
    teacher: PreTrainedModel,
    rows: list[dict[str, Tensor]],
    learning_rate: float,
    epochs: int,
    batch_size: int,
    seed: int,
) -> None:
    """The teacher's own training in fp32 on rows of fixed length."""
    set_attention(True, teacher)
    for batch in steps(teacher, rows, learning_rate, epochs, batch_size, seed):
        teacher(**batch).loss.backward()


def steps(
    model: PreTrainedModel, rows: list[dict[str, Tensor]], learning_rate: float, epochs: int, batch_size: int, seed: int
) -> Iterator[Batch]:
    """Batches; after each, what was left in the gradients becomes an optimizer step."""
    batches = loader(rows, batch_size, seed)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.01), lr=learning_rate)
    total = epochs * len(batches)
    schedule = get_linear_schedule_with_warmup(optimizer, round(0.1 * total), total)
    model.train()
    for _ in range(epochs):
        for batch in batches:
            yield batch
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


def set_attention(shown: bool, *models: PreTrainedModel) -> None:
    """Attention probabilities can be had of the eager implementation alone."""
    for model in models:
        model.set_attn_implementation("eager" if shown else "sdpa")


@torch.no_grad()
def stage_loss(student: PreTrainedModel, teacher: PreTrainedModel, rows: EncodedRows, stage: Stage) -> float:
    """Mean loss of a stage over the rows, in fp32 and without dropout, whoever taught the student."""
    terms = bind(stage.terms, teacher.config, student.config, "single_label")
    need, own = needs(terms)
    for model in (student, teacher):
        model.eval()
        enable(model)
    found = torch.zeros(())
    for start in range(0, len(rows), 32):
        batch = rows.batch(np.arange(start, min(start + 32, len(rows))))
        views = [view(model, batch, n) for model, n in ((student, own), (teacher, need))]
        for term in terms:
            found += rows_loss(term, views[0], views[1], batch, 0.0, lambda values, _: values).sum()
    return float(found / len(rows))
