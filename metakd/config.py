"""Typed settings of a task and of training. A YAML file fills them, the command line overrides them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from metakd.data.labels import ProblemType
from metakd.errors import InputError, nearest


def folder_name(name: str) -> str:
    """A folder's name for a domain: the name itself if it is plain, else made plain and told apart by a hash."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    return re.sub(r"[^A-Za-z0-9_]+", "_", name)[:40] + "-" + digest


@dataclass
class StudentFromTeacher:
    """A student cut from the teacher, weights copied.

    Args:
        layers: how many layers it keeps, or which ones, counted from 1, e.g. [1, 3, 6].
        choose: which ones, if `layers` is a number: "uniform" (every Lt/Ls-th), "first" or "last".
        of: "teacher" copies the trained teacher that it learns from; "pretrained" the encoder that the teacher
            started from, so that methods with and without a teacher start alike.
    """

    layers: int | list[int]
    choose: Literal["uniform", "first", "last"] = "uniform"
    of: Literal["teacher", "pretrained"] = "teacher"


@dataclass
class FreshStudent:
    """A student of the teacher's family in another width, with random weights; a pretrained one learns better.

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
    """How any model is trained; what differs by stage (epochs, learning rate) stands in the method file.

    Args:
        batch_size: rows per optimizer step, over all processes and micro-batches together.
        micro_batch_size: most rows per process in one forward pass; smaller saves memory, and gives
            the same result where there is no dropout.
        warmup: share of the steps in which the learning rate rises; it then falls linearly to zero.
        weight_decay: of AdamW, on matrices only.
        max_grad_norm: gradients are clipped to this norm.
        seed: of the order of rows, dropout, fresh weights and false domain labels.
        precision: "auto" is bf16 where the machine computes in it natively, else fp32.
        checkpoint_seconds: seconds between two checkpoints, from which a killed run goes on.
        teacher_cache_gb: most disk space, in GB, for what a stage on a CPU matches of its teacher's inside; above it
            the teacher runs in every step.
        sharded: whether processes share out what the optimizer keeps (FSDP), twice the size of the weights; the same
            losses, more to exchange. Weights and gradients are whole during a step.
    """

    batch_size: int = 32
    micro_batch_size: int | None = None
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_seconds: float = 60.0
    teacher_cache_gb: float = 8.0
    sharded: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.micro_batch_size is not None and self.micro_batch_size < 1):
            raise InputError("batch_size and micro_batch_size must be at least 1")
        if not 0 <= self.warmup < 1:
            raise InputError(f"warmup is {self.warmup}; it is a share of the steps, from 0 to below 1")


@dataclass
class Task:
    """One classification task over one or more domains.

    Args:
        train: training table (TSV, CSV, JSONL or Parquet): guid, text_a, text_b, label, domain[, weight]; rows
            without label can be shown to a student, not to a teacher.
        dev: table that models are chosen on.
        test: table that evaluation alone learns anything from.
        teacher: pretrained encoder that the teacher starts from: a Hugging Face name or a folder.
        student: what the student starts from: a name or folder; {layers: N} cut from the teacher; {hidden_size:
            D, layers: N} in another width; {architecture: text_cnn} or {architecture: bilstm}.
        unlabelled: more rows to show to a student: a table whose label and domain may be missing.
        problem: "single_label"; "multi_label", labels separated by `|`; or "regression", labels being numbers.
        labels: class names in the order of the logits; by default those of the training table, sorted.
        domains: domain names; by default those of the training table, sorted.
        max_length: tokens a row is cut to.
        epochs: epochs by stage name ("teacher", or a stage of the method file) where the task's budget
            differs from the default.
        learning_rates: peak learning rates by stage name, likewise.
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
    epochs: dict[str, int] = field(default_factory=dict)
    learning_rates: dict[str, float] = field(default_factory=dict)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if isinstance(self.student, str) and self.student.lstrip().startswith("{"):
            known = sorted({f.name for kind in STUDENTS for f in fields(kind)})
            keys = [key for key in re.findall(r"(\w+)\s*:", self.student) if key not in known]
            hints = "".join(nearest(key, known) for key in keys)
            raise InputError(f"task.student: {self.student} is no student; keys of one are {', '.join(known)}{hints}")
        if self.problem == "regression" and self.labels is not None:
            raise InputError(f"task.labels: {self.labels}: a regression has one output, 'score'; leave them out")
        for name, values in (("labels", self.labels), ("domains", self.domains)):
            if values is not None and len(set(values)) != len(values):
                raise InputError(f"{name} has a name twice: {values}")
        for stage, count in self.epochs.items():
            if count < 1:
                raise InputError(f"epochs.{stage} is {count}; it must be at least 1")
        for stage, rate in self.learning_rates.items():
            if rate <= 0:
                raise InputError(f"learning_rates.{stage} is {rate}; it must be above 0")
        if self.max_length < 4:
            raise InputError(f"max_length is {self.max_length}; a row needs at least 4 tokens")

    def settings(self, *stages: str) -> dict[str, Any]:
        """What a model trained in these stages depends on, beside the content of its inputs."""
        training = asdict(self.training)
        del training["checkpoint_seconds"], training["teacher_cache_gb"]
        found: dict[str, Any] = {name: getattr(self, name) for name in ("problem", "labels", "domains", "max_length")}
        for name in ("epochs", "learning_rates"):
            found[name] = {stage: value for stage, value in getattr(self, name).items() if stage in stages}
        return {**found, "training": training}

    def require(self, *tables: str) -> None:
        """Refuse a table path (by field name) that does not exist."""
        for name in tables:
            path = getattr(self, name)
            if path is None or not Path(path).is_file():
                what = "no table is named" if path is None else f"no file {path!r}"
                raise InputError(
                    f"task.{name}: {what}; make it with a script of data_prep/, or point there with --task.{name}"
                )


@dataclass
class MetaTeacher:
    """What makes the teacher a meta-teacher (Pan et al. 2021, section 3.2); each part can be switched off.

    Args:
        row_weight: "prototype" weighs each row's cross-entropy by its prototype score; "uniform" does not.
        domain_loss_weight: scale of the domain loss (g1); 0 trains without domain head.
        false_labels: "paper" draws each row's false domain uniformly from the other domains; "released"
            permutes the true domains of the batch, so that some stay true.
        domain_row_weight: "paper" leaves the domain loss unweighted; "released" weighs it like the CE.
    """

    row_weight: Literal["prototype", "uniform"] = "prototype"
    domain_loss_weight: float = 0.5
    false_labels: Literal["paper", "released"] = "paper"
    domain_row_weight: Literal["paper", "released"] = "paper"

    def __post_init__(self) -> None:
        if self.domain_loss_weight < 0:
            raise InputError(f"domain_loss_weight is {self.domain_loss_weight}; it must be 0 (off) or above")
