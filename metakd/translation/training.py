"""Train a translator in the training loop of all models: its objective, its job, and what it is prepared from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sacrebleu
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from metakd.data.tables import read_rows
from metakd.data.tokenizers import same_tokens
from metakd.errors import InputError
from metakd.models.loading import load_tokenizer
from metakd.training.inference import batches_over, to_device
from metakd.training.loop import TrainingJob
from metakd.translation.losses import smoothed_cross_entropy, token_kl
from metakd.translation.models import (
    cut_translator,
    fresh_translator,
    load_translator,
    target_logits,
    tokenizer_of,
    try_translator,
)
from metakd.translation.rows import Batch, EncodedPairs, encode_pairs, require_whole, whole
from metakd.translation.search import greedy_texts, rows_at_once
from metakd.translation.settings import (
    PAIRS,
    FreshTranslator,
    TokenTerm,
    TranslationMethod,
    TranslationTask,
    TranslatorFromTeacher,
)


class TranslationObjective(nn.Module):
    """Each term's loss, summed over the tokens of a row [B].

    Args:
        model: the translator.
        terms: of the method.
    """

    def __init__(self, model: PreTrainedModel, terms: list[TokenTerm]) -> None:
        super().__init__()
        self.model, self.terms = model, terms
        self.start = model.config.decoder_start_token_id

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses [B] by term; the batch holds teacher_logits [B, L, V] if a term is about them."""
        logits, mask = target_logits(self.model, batch, self.start), batch["target_mask"]
        losses = {}
        for term in self.terms:
            if term.feature == "label":
                losses["label"] = smoothed_cross_entropy(logits, batch["target"], mask, term.label_smoothing)
            else:
                losses["logits"] = token_kl(logits, batch["teacher_logits"], mask, term.temperature)
        return losses


class TranslationJob(TrainingJob):
    """Train a translator; losses are divided by the target tokens of a step, so long rows count more than short ones.

    Args:
        model: the translator.
        rows: to learn from.
        dev: rows that epochs are compared on, by the negative loss per token or by BLEU.
        method: its terms, and whether the best epoch is saved.
        tokenizer: of the model.
        accelerator: of this process.
        teacher: in eval mode, frozen; None where no term is about it.
        references: of the dev rows, where epochs are compared by BLEU.
    """

    rows: EncodedPairs

    def __init__(
        self,
        model: PreTrainedModel,
        rows: EncodedPairs,
        dev: EncodedPairs,
        method: TranslationMethod,
        tokenizer: PreTrainedTokenizerBase,
        accelerator: Accelerator,
        teacher: PreTrainedModel | None = None,
        references: list[str] | None = None,
    ) -> None:
        names = [term.feature for term in method.terms]
        ones, tokens = np.ones(len(rows)), rows.target_lengths.astype(np.float64)
        scales: dict[str, float] = {term.feature: term.scale for term in method.terms}
        super().__init__(
            TranslationObjective(model, method.terms), rows, scales, dict.fromkeys(names, ones),
            dict.fromkeys(names, tokens),
        )  # fmt: skip
        self.model, self.dev, self.tokenizer, self.accelerator = model, dev, tokenizer, accelerator
        self.keeps_best = method.select == "dev"
        self.references = references
        self.teacher = None if teacher is None else teacher.to(accelerator.device).eval().requires_grad_(False)

    def inputs(self, rows: np.ndarray, device: torch.device) -> tuple[Batch]:
        batch = to_device(self.rows.batch(rows), device)
        if self.teacher is not None:
            with torch.no_grad(), self.accelerator.autocast():
                start = self.teacher.config.decoder_start_token_id
                batch["teacher_logits"] = target_logits(self.teacher, batch, start)
        return (batch,)

    def score(self) -> dict[str, float]:
        loss = loss_per_token(self.model, self.dev, self.accelerator)
        if self.references is None:
            return {"score": -loss, "loss": loss}
        texts = greedy_texts(self.model, self.tokenizer, self.dev, self.accelerator)
        bleu = sacrebleu.corpus_bleu(texts, [self.references]).score
        return {"score": bleu, "loss": loss}


@torch.no_grad()
def loss_per_token(model: PreTrainedModel, rows: EncodedPairs, accelerator: Accelerator) -> float:
    """-log p of the targets, in nats per token; the same on every process."""
    training, start = model.training, model.config.decoder_start_token_id
    model.eval()
    total = torch.zeros((), dtype=torch.float64)
    size = rows_at_once(model, int(rows.lengths.max()))
    for _, batch in batches_over(rows, accelerator, "dev", None, size):
        with accelerator.autocast():
            logits = target_logits(model, batch, start)
        total += smoothed_cross_entropy(logits, batch["target"], batch["target_mask"]).double().sum().cpu()
    model.train(training)
    whole = accelerator.reduce(total.to(accelerator.device), "sum")
    return float(whole) / max(1, int(rows.target_lengths.sum()))


@dataclass
class PreparedTranslator:
    """A translator before its training.

    Args:
        starts_from: in words, where its weights come from.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    job: TranslationJob
    starts_from: str


def prepare_translator(
    task: TranslationTask,
    method: TranslationMethod,
    role: str,
    train: str | Path,
    teacher_name: str | None,
    accelerator: Accelerator,
) -> PreparedTranslator:
    """Load what a training reads.

    Args:
        role: "teacher" or "student": which of the task's models is trained.
        train: table of the rows to learn from.
        teacher_name: folder of the trained teacher; None where nothing needs it.

    Raises:
        InputError: what is read does not fit together.
    """
    shape: Any = getattr(task, role)
    teacher = load_translator(teacher_name) if teacher_name is not None else None
    if isinstance(shape, TranslatorFromTeacher):
        assert teacher is not None and teacher_name is not None
        tokenizer = tokenizer_of(teacher_name, task.tokenizer)
        model, starts_from = cut_translator(teacher, shape), f"layers of {teacher_name}"
    elif isinstance(shape, FreshTranslator):
        tokenizer = tokenizer_of(None, task.tokenizer)
        model, starts_from = fresh_translator(shape, tokenizer, task.training.seed), "random weights"
    else:
        tokenizer = tokenizer_of(shape, task.tokenizer)
        model, starts_from = load_translator(shape), str(shape)
    try_translator(model, tokenizer, task.max_length, starts_from)
    if teacher is not None and method.needs_teacher:
        assert teacher_name is not None
        try_translator(teacher, load_tokenizer(teacher_name), task.max_length, teacher_name)
        require_one_vocabulary(teacher, model, teacher_name, tokenizer)
    rows, dev = (encode_pairs(path, tokenizer, task.max_length) for path in (task.train, task.dev))
    require_whole(rows, task.train, task.max_length)
    require_whole(dev, task.dev, task.max_length)
    if method.needs_translations:
        rows = whole(encode_pairs(train, tokenizer, task.max_length), train)
    references = [row["label"] for row in read_rows(task.dev, required=PAIRS)] if task.select_by == "bleu" else None
    job = TranslationJob(
        model, rows, dev, method, tokenizer, accelerator, teacher if method.needs_teacher else None, references
    )
    return PreparedTranslator(model, tokenizer, job, starts_from)


def require_one_vocabulary(
    teacher: PreTrainedModel, student: PreTrainedModel, name: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse distributions over two vocabularies.

    Args:
        name: of the teacher.
        tokenizer: of the student.
    """
    sizes = teacher.config.vocab_size, student.config.vocab_size
    if sizes[0] != sizes[1] or not same_tokens(load_tokenizer(name), tokenizer):
        raise InputError(
            f"the student has a vocabulary of {sizes[1]} tokens, the teacher {name} one of {sizes[0]} tokens"
            f"{' that are not the same' * (sizes[0] == sizes[1])}; logits can be compared only over one vocabulary, so "
            "give both the same tokenizer, or use sequence_kd.yaml"
        )
