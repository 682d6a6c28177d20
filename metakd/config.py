"""What a task file says: data, models and how they are trained. The command line overrides single values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from metakd.data.formats import ONE_FILE
from metakd.data.labels import SEPARATOR, ProblemType, SelectBy, require_different
from metakd.errors import InputError, nearest
from metakd.ranges import BelowOne, Count, NotNegative, Range, Seed, check_fields


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

    layers: Count | list[Count]
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

    hidden_size: Count
    layers: Count
    heads: Count | None = None
    intermediate_size: Count | None = None


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
    filters: Count = 100
    widths: list[Count] = field(default_factory=lambda: [3, 4, 5])
    embedding_size: Count | None = None
    dropout: BelowOne = 0.1


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
    lstm_size: Count = 150
    layers: Count = 1
    embedding_size: Count | None = None
    dropout: BelowOne = 0.1


@dataclass
class StaticStudent:
    """The mean of word vectors and one hidden layer: a few megabytes, and no attention.

    Args:
        architecture: "static".
        embedding_size: of the word vectors, which start as principal components of a larger model's.
        hidden_size: of the hidden layer.
        dropout: of the hidden layer.
        of: whose vectors of single tokens these are: the trained "teacher"'s, which know the task, or the "pretrained"
            encoder's.
    """

    architecture: Literal["static"]
    embedding_size: Count = 64
    hidden_size: Count = 128
    dropout: BelowOne = 0.5
    of: Literal["teacher", "pretrained"] = "teacher"


class Budget(Protocol):
    """How long a stage, a teacher or a translator is trained."""

    @property
    def epochs(self) -> int: ...
    @property
    def min_steps(self) -> int: ...


def scaled(budget: Budget, factor: float) -> tuple[int, int]:
    """The epochs of a method file, at least one, and its least steps, times `task.epochs_scale`."""
    return max(1, round(budget.epochs * factor)), round(budget.min_steps * factor)


Precision = Literal["auto", "fp32", "bf16"]
LONGEST_ROW = 100_000  # tokens
STUDENTS = (StudentFromTeacher, FreshStudent, TextCNNStudent, BiLSTMStudent, StaticStudent)
# What `Task.student` may be.
Student = str | StudentFromTeacher | FreshStudent | TextCNNStudent | BiLSTMStudent | StaticStudent


def starts_from_teacher(student: Student) -> bool:
    """Whether a student's weights come from the trained teacher."""
    return isinstance(student, StudentFromTeacher | StaticStudent) and student.of == "teacher"


@dataclass
class Training:
    """How every model is trained. Epochs and learning rates stand in the method file.

    Args:
        batch_size: rows per optimizer step, summed over all processes and micro-batches.
        micro_batch_size: largest number of rows per process in one forward pass. A smaller one saves memory; the
            result is the same where there is no dropout.
        max_tokens: most tokens per optimizer step, instead of `batch_size`; batches of translations are measured so.
        warmup: fraction of the steps in which the learning rate rises linearly.
        schedule: how it falls afterwards: "linear" to zero, or "inverse_sqrt", with the square root of the step.
        average_last: number of last epochs whose weights are averaged; then no epoch is chosen on dev. 1: none are.
        weight_decay: of AdamW, on matrices only.
        max_grad_norm: gradients are clipped to this norm; 0 leaves them as they are.
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

    batch_size: Count = 32
    micro_batch_size: Count | None = None
    max_tokens: Count | None = None
    warmup: BelowOne = 0.1
    schedule: Literal["linear", "inverse_sqrt"] = "linear"
    average_last: Count = 1
    weight_decay: NotNegative = 0.01
    max_grad_norm: NotNegative = 1.0
    seed: Seed = 1
    precision: Precision = "auto"
    checkpoint_seconds: NotNegative = 60.0
    cpu_tuning: Literal["auto", "off"] = "auto"
    teacher_cache_gb: NotNegative = 8.0
    log_with: Literal["auto"] | list[str] = "auto"

    def __post_init__(self) -> None:
        check_fields(self, "training.")

    def settings(self) -> dict[str, Any]:
        """What the result depends on."""
        settings = asdict(self)
        for name in ("checkpoint_seconds", "teacher_cache_gb", "log_with"):
            del settings[name]
        for name in ("max_tokens", "schedule", "average_last"):  # unless set: as before there were these settings
            if settings[name] == getattr(type(self), name):
                del settings[name]
        return settings


def refuse_misspelt(place: str, value: object, kinds: Sequence[type]) -> None:
    """Refuse a mapping that fits none of its kinds: it was read as text, as if it were the name of a model."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        known = sorted({f.name for kind in kinds for f in fields(kind)})
        keys = [key for key in re.findall(r"(\w+)\s*:", value) if key not in known]
        hints = "".join(nearest(key, known) for key in keys)
        what = place.rpartition(".")[2]
        raise InputError(f"{place}: {value} is no {what}; its keys can be {', '.join(known)}{hints}")


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
            D, layers: N} in another width; {architecture: A} without a transformer: text_cnn, bilstm or static.
        unlabelled: more rows for the student: a table whose domains may be missing, and whose labels are not read.
        problem: "single_label"; "multi_label", with labels separated by `|`; or "regression", with numbers as labels.
        labels: class names in the order of the logits; by default those of the training table, sorted.
        own_labels: each domain has classes of its own, as sets of intents have: a domain's student answers with those
            of the domain's rows in the training table alone, and learns from the teacher's logits of these.
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
    own_labels: bool = False
    domains: list[str] | None = None
    max_length: Annotated[int, Range(4, LONGEST_ROW)] = 128  # a row needs [CLS], [SEP] twice and a token
    epochs_scale: Annotated[float, Range(0, 1000, above=True)] = 1.0
    select_by: SelectBy | None = None
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        refuse_misspelt("task.student", self.student, STUDENTS)
        if self.problem == "regression" and self.own_labels:
            raise InputError("task.own_labels is true, but a regression has no classes; leave it out")
        if self.problem == "regression" and self.labels is not None:
            raise InputError(f"task.labels: {self.labels}: a regression has one output, 'score'; leave them out")
        if self.select_by == "accuracy" and self.problem != "single_label":
            raise InputError(f"task.select_by is accuracy, which a {self.problem} task does not have; leave it out")
        if self.select_by == "macro_f1" and self.problem == "regression":
            raise InputError("task.select_by is macro_f1, but a regression has no classes; leave it out")
        self.labels = checked_names(self.labels, "task.labels")
        self.domains = checked_names(self.domains, "task.domains")
        check_fields(self, "task.")
        if self.problem == "multi_label" and any(SEPARATOR in name for name in self.labels or ()):
            raise InputError(
                f"task.labels: {self.labels}: {SEPARATOR!r} separates the labels of a row; rename the class"
            )

    def settings(self) -> dict[str, Any]:
        """What a model trained on this task depends on, beside the method and the content of its inputs."""
        names = ("problem", "labels", "domains", "max_length")
        settings = {**{name: getattr(self, name) for name in names}, "training": self.training.settings()}
        if self.own_labels:  # unless set: as before there was this setting
            settings["own_labels"] = True
        return settings if self.select_by is None else {**settings, "select_by": self.select_by}

    def require(self, *tables: str) -> None:
        """Refuse a table path (by field name) that does not exist."""
        for name in tables:
            require_table(getattr(self, name), f"task.{name}")


def require_table(path: str | None, place: str) -> None:
    """Refuse the path of a table, named in this place, that is no file."""
    if path is None:
        raise InputError(f"{place}: no table is named; make the table, and name it")
    if Path(path).is_dir():
        raise InputError(f"{place}: {path!r} is a folder; {ONE_FILE}")
    if not Path(path).is_file():
        raise InputError(f"{place}: no file {path!r}; make the table, or name another one")


def checked_names(names: list[str] | None, place: str) -> list[str] | None:
    """The names of classes or domains, without space around them, as tables are read.

    Raises:
        InputError: a name is empty or occurs twice.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return names  # None, or for `check_fields` to refuse
    names = [name.strip() for name in names]
    if not names or not all(names):
        raise InputError(f"{place} is {names}; each name must be a text, or leave the list out")
    if len(set(names)) != len(names):
        raise InputError(f"{place} has a name twice: {names}")
    require_different(names, place)
    return names
