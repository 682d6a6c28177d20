"""What the task and method files of a translation say."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from metakd.config import LONGEST_ROW, Training, refuse_misspelt, require_table
from metakd.errors import InputError
from metakd.ranges import BelowOne, Count, NotNegativeCount, Positive, Range, check_fields

PAIRS = ("guid", "text_a", "label")  # columns that rows to learn from must fill
SOURCES = ("guid", "text_a")
# Of translate.py.
TRANSLATION_COLUMNS = ("guid", "domain", "source", "reference", "rank", "hypothesis", "score", "ended")
Targets = Literal["reference", "teacher", "both", "closest"]


@dataclass
class FreshTranslator:
    """An encoder-decoder with random weights, of M2M100's architecture; its three embeddings are one matrix.

    Args:
        hidden_size: its width D.
        layers: of the encoder, and of the decoder unless `decoder_layers` says otherwise.
        decoder_layers: of the decoder; a shallow one translates faster (Kasai et al. 2021, arXiv 2006.10369).
        heads: attention heads.
        intermediate_size: width inside the feed-forward layers; 4 D by default.
        dropout: of embeddings and sublayers.
    """

    hidden_size: Count
    layers: Count
    decoder_layers: Count | None = None
    heads: Count = 4
    intermediate_size: Count | None = None
    dropout: BelowOne = 0.1


@dataclass
class TranslatorFromTeacher:
    """A student that copies some of the teacher's layers, spread evenly from the first to the last.

    Args:
        layers: of the encoder, and of the decoder unless `decoder_layers` says otherwise.
        decoder_layers: of the decoder.
    """

    layers: Count
    decoder_layers: Count | None = None


Translator = str | TranslatorFromTeacher | FreshTranslator


@dataclass
class TranslationTask:
    """A translation between two languages.

    Args:
        problem: "translation".
        train: table with guid, text_a (the source), label (its translation) and domain (the corpus).
        dev: table that epochs are chosen on.
        test: held-out table; only evaluation reads its translations.
        tokenizer: folder or Hub name of the tokenizer of both languages, for models with random weights.
        teacher: a folder or Hub name, or {hidden_size: D, layers: N} from random weights.
        student: the same, or {layers: N} cut from the trained teacher. The option --task.student '{layers: 1}' changes
            only what it names, so a task file says whether a student is cut.
        max_length: most tokens of a source or a translation; longer training rows are refused.
        epochs_scale: factor of all epochs of the method file; every run keeps at least one epoch.
        select_by: how epochs are compared on dev: "loss" of the references per token, or "bleu" of greedy translations.
        training: how models are trained.
    """

    problem: Literal["translation"]
    train: str
    dev: str
    test: str
    tokenizer: str
    teacher: str | FreshTranslator
    student: Translator
    max_length: Annotated[int, Range(4, LONGEST_ROW)] = 128
    epochs_scale: Annotated[float, Range(0, 1000, above=True)] = 1.0
    select_by: Literal["loss", "bleu"] = "loss"
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        for name in ("teacher", "student"):
            refuse_misspelt(f"task.{name}", getattr(self, name), [FreshTranslator, TranslatorFromTeacher])
        check_fields(self, "task.")

    def settings(self) -> dict[str, Any]:
        """What a model trained on this task depends on, beside the method and the content of its inputs."""
        names = ("max_length", "epochs_scale", "select_by")
        return {**{name: getattr(self, name) for name in names}, "training": self.training.settings()}

    def require(self, *tables: str) -> None:
        """Refuse a table path (by field name) that does not exist."""
        for name in tables:
            require_table(getattr(self, name), f"task.{name}")


@dataclass
class TokenTerm:
    """One term of a translator's objective: a loss per token, summed over a row's tokens, divided by all tokens.

    Args:
        feature: "label", cross-entropy with the target text, or "logits", KL to the teacher's distribution over the
            vocabulary at every target token (word-level distillation, Kim & Rush 2016, section 3.1).
        scale: factor of the term.
        label_smoothing: of "label", in fairseq's form.
        temperature: of "logits": divides both logits; the loss is multiplied by its square.
    """

    feature: Literal["label", "logits"]
    scale: Positive = 1.0
    label_smoothing: BelowOne = 0.0
    temperature: Positive = 1.0

    def __post_init__(self) -> None:
        check_fields(self, "terms: ")
        if self.feature == "label" and self.temperature != 1:
            raise InputError("terms: temperature is of logits; leave it out of label")
        if self.feature == "logits" and self.label_smoothing:
            raise InputError("terms: label_smoothing is of label; leave it out of logits")


@dataclass
class TranslationMethod:
    """How a translator is trained.

    Args:
        targets: what it learns to write. "reference": the table's translations. "teacher": the teacher's best
            hypothesis (sequence-level distillation, Kim & Rush 2016, section 3.2). "both": a row of each. "closest":
            of the teacher's n best the one with the highest sentence BLEU (their sequence-level interpolation).
        terms: of the objective.
        beam: of the teacher's search, where `targets` are its own.
        epochs: passes over the rows.
        min_steps: least number of optimizer steps; there are more epochs where rows are few.
        learning_rate: the highest one.
        select: "dev" saves the best epoch on dev, "last" the last one.
    """

    terms: list[TokenTerm]
    epochs: Count
    learning_rate: Positive
    targets: Targets = "reference"
    beam: Count = 5
    min_steps: NotNegativeCount = 0
    select: Literal["dev", "last"] = "dev"

    def __post_init__(self) -> None:
        check_fields(self, "method.")
        features = [term.feature for term in self.terms]
        if not features or len(set(features)) != len(features):
            raise InputError(f"terms are of {features or 'nothing'}; name label, logits, or each of them once")

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher runs in every step."""
        return any(term.feature == "logits" for term in self.terms)

    @property
    def needs_translations(self) -> bool:
        """Whether the targets come from the teacher's translations of the training rows."""
        return self.targets != "reference"

    def settings(self) -> dict[str, Any]:
        return asdict(self)
