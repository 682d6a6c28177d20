"""What a task file says: data, models and how they are trained. The command line overrides single values."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from metakd.data.labels import ProblemType, SelectBy
from metakd.errors import InputError, nearest


@dataclass
class StudentFromTeacher:
    """A student that copies some of the teacher's layers.

    Args:
        layers: number of layers, or the layers themselves, counted from 1, e.g. [1, 3, 6].
        choose: which layers, if `layers` is a number: "spread" evenly from the first to the last, "uniform" (every
            Lt/Ls-th, as TinyBERT's layer map), "first" or "last".
        of: "teacher" copies the trained teacher; "pretrained" the encoder that the teacher started from, so that
            methods with and without a teacher start alike.
    """

    layers: int | list[int]
    choose: Literal["spread", "uniform", "first", "last"] = "spread"
    of: Literal["teacher", "pretrained"] = "teacher"


@dataclass
class FreshStudent:
    """A student of the teacher's family in another width, with random weights. A pretrained student learns better.

    Args:
        hidden_size: its width D.
        layers: its depth.
        heads: attention heads; by default as many as the teacher has.
        intermediate_size: width inside the feed-forward layers; 4 D by default.
    """

    hidden_size: int
    layers: int
    heads: int | None = None
    intermediate_size: int | None = None


@dataclass
class TextCNNStudent:
    """A convolutional student (Kim 2014) on the teacher's tokenizer.

    Args:
        architecture: "text_cnn".
        filters: feature maps of each width.
        widths: of the convolutions, in tokens.
        embedding_size: of fresh word embeddings; by default the pretrained encoder's are copied.
        dropout: before the classifier.
    """

    architecture: Literal["text_cnn"]
    filters: int = 100
    widths: list[int] = field(default_factory=lambda: [3, 4, 5])
    embedding_size: int | None = None
    dropout: float = 0.1


@dataclass
class BiLSTMStudent:
    """A bidirectional LSTM (Tang et al. 2019) on the teacher's tokenizer.

    Args:
        architecture: "bilstm".
        lstm_size: width of each direction.
        layers: LSTM layers.
        embedding_size: of fresh word embeddings; by default the pretrained encoder's are copied.
        dropout: before the classifier.
    """

    architecture: Literal["bilstm"]
    lstm_size: int = 150
    layers: int = 1
    embedding_size: int | None = None
    dropout: float = 0.1


STUDENTS = (StudentFromTeacher, FreshStudent, TextCNNStudent, BiLSTMStudent)
Student = str | StudentFromTeacher | FreshStudent | TextCNNStudent | BiLSTMStudent


@dataclass
class Training:
    """How every model is trained. Epochs and learning rates stand in the method file.

    Args:
        batch_size: rows per optimizer step, summed over all processes and micro-batches.
        micro_batch_size: largest number of rows per process in one forward pass. A smaller one saves memory; the
            result is the same where there is no dropout.
        warmup: fraction of the steps in which the learning rate rises; then it falls linearly to zero.
        weight_decay: of AdamW, on matrices only.
        max_grad_norm: gradients are clipped to this norm.
        seed: of the order of rows, dropout, fresh weights, false domain labels and visible labels.
        precision: "auto" is bf16 where the machine computes in it natively, else fp32.
        checkpoint_seconds: seconds between two checkpoints; a killed run resumes from the last one.
        cpu_tuning: "auto" makes training and inference on a CPU faster (metakd/cpu/); "off" is stock PyTorch. The
            losses are equal without dropout; with dropout the random masks differ.
        teacher_cache_gb: disk space, in GB, that a stage on a CPU may use to cache its teacher's activations; a stage
            that needs more runs its teacher in every step.
        log_with: trackers of Accelerate that losses, learning rate and dev scores are sent to, e.g. [tensorboard];
            "auto" is TensorBoard where it is installed, [] none.
    """

    batch_size: int = 32
    micro_batch_size: int | None = None
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_seconds: float = 60.0
    cpu_tuning: Literal["auto", "off"] = "auto"
    teacher_cache_gb: float = 8.0
    log_with: Literal["auto"] | list[str] = "auto"

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.micro_batch_size is not None and self.micro_batch_size < 1):
            raise InputError("training.batch_size and training.micro_batch_size must be at least 1")
        if not 0 <= self.warmup < 1:
            raise InputError(f"training.warmup is {self.warmup}; it is a fraction of the steps, from 0 to below 1")

    def settings(self) -> dict[str, Any]:
        """What the result depends on."""
        settings = asdict(self)
        for name in ("checkpoint_seconds", "teacher_cache_gb", "log_with"):
            del settings[name]
        return settings


@dataclass
class Task:
    """One task over one or more domains.

    Args:
        train: training table (TSV, CSV, JSONL or Parquet): guid, text_a, text_b, label, domain[, weight]. A student
            can be shown rows without label, a teacher cannot.
        dev: table that epochs are chosen on.
        test: held-out table; only evaluation reads its labels.
        teacher: pretrained encoder that the teacher starts from: a Hugging Face name or a folder.
        student: what the student starts from: a name or folder; {layers: N} cut from the teacher; {hidden_size:
            D, layers: N} in another width; {architecture: text_cnn} or {architecture: bilstm}.
        unlabelled: more rows for the student: a table whose domains may be missing, and whose labels are not read.
        problem: "single_label"; "multi_label", with labels separated by `|`; or "regression", with numbers as labels.
        labels: class names in the order of the logits; by default those of the training table, sorted.
        domains: domain names; by default those of the training table, sorted.
        max_length: tokens that a row is cut to.
        epochs_scale: factor of all epochs of the method file; every run keeps at least one epoch.
        select_by: the dev score that epochs are compared by: "accuracy" (single-label tasks), or "macro_f1", the mean
            F1 of the classes. By default accuracy, in a multi-label task micro-F1, in a regression Spearman's
            correlation.
        training: how models are trained.
    """

    train: str
    dev: str
    test: str
    teacher: str
    student: Student
    unlabelled: str | None = None
    problem: ProblemType = "single_label"
    labels: list[str] | None = None
    domains: list[str] | None = None
    max_length: int = 128
    epochs_scale: float = 1.0
    select_by: SelectBy | None = None
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if isinstance(self.student, str) and self.student.lstrip().startswith("{"):
            known = sorted({f.name for kind in STUDENTS for f in fields(kind)})
            keys = [key for key in re.findall(r"(\w+)\s*:", self.student) if key not in known]
            hints = "".join(nearest(key, known) for key in keys)
            raise InputError(f"task.student: {self.student} is no student; its keys can be {', '.join(known)}{hints}")
        if self.problem == "regression" and self.labels is not None:
            raise InputError(f"task.labels: {self.labels}: a regression has one output, 'score'; leave them out")
        if self.select_by == "accuracy" and self.problem != "single_label":
            raise InputError(f"task.select_by is accuracy, which a {self.problem} task does not have; leave it out")
        if self.select_by == "macro_f1" and self.problem == "regression":
            raise InputError("task.select_by is macro_f1, but a regression has no classes; leave it out")
        for name, values in (("labels", self.labels), ("domains", self.domains)):
            if values is not None and len(set(values)) != len(values):
                raise InputError(f"task.{name} has a name twice: {values}")
        if not 0 < self.epochs_scale < float("inf"):
            raise InputError(f"task.epochs_scale is {self.epochs_scale}; it must be above 0")
        if self.max_length < 4:
            raise InputError(f"task.max_length is {self.max_length}; a row needs at least 4 tokens")

    def scaled_epochs(self, epochs: int) -> int:
        """Epochs of a method file on this task, rounded; at least one."""
        return max(1, round(epochs * self.epochs_scale))

    def settings(self) -> dict[str, Any]:
        """What a model trained on this task depends on, beside the method and the content of its inputs."""
        names = ("problem", "labels", "domains", "max_length")
        settings = {**{name: getattr(self, name) for name in names}, "training": self.training.settings()}
        return settings if self.select_by is None else {**settings, "select_by": self.select_by}

    def require(self, *tables: str) -> None:
        """Refuse a table path (by field name) that does not exist."""
        for name in tables:
            path = getattr(self, name)
            if path is None or not Path(path).is_file():
                what = "no table is named" if path is None else f"no file {path!r}"
                raise InputError(f"task.{name}: {what}; make the table, or name another one")
