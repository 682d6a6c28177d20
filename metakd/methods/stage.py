"""A stage of a method: a sum of terms, each one match of student and teacher."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from metakd.errors import InputError
from metakd.methods.layer_maps import LayerMap
from metakd.ranges import Count, NotNegativeCount, Positive, Range, check_fields

RowWeight = Literal[
    "uniform", "balanced", "prototype", "expertise", "expertise_easynlp", "shuffled_prototype", "shuffled_expertise"
]
SHUFFLED = "shuffled_"
FROM_CLASSES = ("uniform", "balanced")  # row weights that need no prototype scores
Denominator = Literal["weights", "rows"]
Rows = Literal["labelled", "unlabelled", "other_domains", "extra"]
PRETRAINED = "pretrained"
OUTPUTS = ("logits", "label")  # the features that lie outside the network


@dataclass
class Schedule:
    """A value that moves linearly from `start` to `end` over a stage."""

    start: Positive
    end: Positive


@dataclass
class Term:
    """One term of a stage's objective: a loss per row, weighted per row, averaged, and scaled.

    Args:
        feature: what student and teacher are compared in (metakd/objectives/features.py): "embedding", "hidden",
            "cls", "attention_scores", "attention_probabilities", "query_key_relation", "value_relation",
            "transferable" (the domain head's feature h), "logits", or "label", which needs no teacher.
        loss: name of a per-row loss of the feature; for "label" the problem type's loss by default.
        scale: factor of the term in the objective.
        layers: which student layer learns from which teacher layer. "uniform": from the layer that it was cut from;
            where the student was not cut from layers of the teacher, layer j from layer j*Lt/Ls. "skip" and
            "last" (Patient KD): student layers 1 to Ls-1 from every Lt/Ls-th layer, or from the layers just
            below the teacher's last one. "final": the last layer from the last. Or pairs [[teacher, student],
            ...], counted from 1; 0 is the embedding layer.
        temperature: divides both logits; the loss is multiplied by its square. A number, or {start: , end: }.
        heads: number of relation heads; the teacher's attention heads by default.
        projection: where the widths differ, a linear layer maps the student's values to the teacher's width. "shared":
            one for all layers (TinyBERT, equation 8). "per_match": one for each layer pair (TextBrewer).
    """

    feature: str
    loss: str = ""
    scale: Positive = 1.0
    layers: LayerMap = "uniform"
    temperature: Positive | Schedule = 1.0
    heads: Count | None = None
    projection: Literal["shared", "per_match"] = "shared"

    def __post_init__(self) -> None:
        if not self.loss and self.feature != "label":
            raise InputError(f"a term on {self.feature} needs a loss")
        check_fields(self, f"the term on {self.feature}: ")

    def temperature_at(self, progress: float) -> float:
        """The temperature at a fraction (0 to 1) of the stage's steps."""
        if isinstance(self.temperature, Schedule):
            return self.temperature.start + progress * (self.temperature.end - self.temperature.start)
        return self.temperature


@dataclass
class Stage:
    """One training run of the student.

    Args:
        name: names the stage in logs and results.
        terms: summed.
        epochs: passes over the rows; `task.epochs_scale` multiplies them.
        min_steps: least number of optimizer steps, so that a small table is shown more often than `epochs` times;
            `task.epochs_scale` multiplies them too.
        learning_rate: peak learning rate.
        rows: what the student is shown: the domain's "labelled" rows, its "unlabelled" rows (also those of
            task.unlabelled), the rows of "other_domains", and "extra": all other rows of task.unlabelled.
        soup: runs of the stage from the same start, whose weights are averaged (arXiv 2203.05482); they differ in the
            order of rows and in dropout.
        most_unlabelled: most "unlabelled" rows that are shown, chosen by the seed; more contain fewer. By default all.
        row_weight: weight of each row in every term: "uniform" (1), "balanced" (all classes count alike), "prototype"
            (t), "expertise" (lambda), or "expertise_easynlp": the mean lambda of the batch, as in EasyNLP. Two
            placebos, "shuffled_prototype" and "shuffled_expertise", deal these weights out at random among the rows of
            a domain.
        divide_by: each term is divided by the sum of its "weights", or by the number of its "rows".
        teacher: whom the stage learns from, if not the method's teacher: "pretrained" is task.teacher before
            fine-tuning, anything else a model folder.
        select: which epoch is saved: the one with the best dev score ("dev"), or the last ("last").
        dropout: whether the student's dropout is on. With dropout a copy of the teacher does not match it either.
    """

    name: str
    terms: list[Term]
    epochs: Count
    learning_rate: Annotated[float, Range(0, 1, above=True)]
    rows: list[Rows] = field(default_factory=lambda: ["labelled"])
    row_weight: RowWeight = "uniform"
    divide_by: Denominator = "weights"
    teacher: str | None = None
    select: Literal["dev", "last"] = "dev"
    min_steps: NotNegativeCount = 0
    dropout: bool = True
    most_unlabelled: NotNegativeCount | None = None
    soup: Count = 1

    def __post_init__(self) -> None:
        check_fields(self, f"stage {self.name}: ")
        if not self.terms or not self.rows:
            raise InputError(f"stage {self.name}: needs terms and rows")
        if self.most_unlabelled is not None and "unlabelled" not in self.rows:
            raise InputError(f"stage {self.name}: most_unlabelled limits unlabelled rows, but rows are {self.rows}")
        if self.row_weight == "expertise_easynlp" and self.divide_by == "weights":
            raise InputError(
                f"stage {self.name}: expertise_easynlp gives all rows of a batch the same weight, which "
                "divide_by: weights cancels; set divide_by: rows"
            )

    @property
    def features(self) -> set[str]:
        return {term.feature for term in self.terms}

    @property
    def weights_before_shuffling(self) -> str:
        """`row_weight`; for a placebo the row weight that it shuffles."""
        return self.row_weight.removeprefix(SHUFFLED)

    @property
    def needs_prototypes(self) -> bool:
        """Whether the table's prototype scores t are used."""
        return self.row_weight not in FROM_CLASSES

    @property
    def needs_logits(self) -> bool:
        """Whether the teacher's logits are used."""
        weights = self.weights_before_shuffling
        # The teacher's confidence, or its class, stands for a label that is not there.
        by_label = weights == "prototype" or (weights == "balanced" and self.features != {"label"})
        confidence = by_label and set(self.rows) != {"labelled"}
        return "logits" in self.features or weights.startswith("expertise") or confidence

    @property
    def needs_activations(self) -> bool:
        """Whether more of the teacher than its logits is matched."""
        return bool(self.features - set(OUTPUTS))

    @property
    def needs_method_teacher(self) -> bool:
        """Whether the stage learns from the method's own teacher."""
        return self.teacher is None and (self.needs_logits or self.needs_activations)

    @property
    def trains_classifier(self) -> bool:
        """Whether the student's classification head is trained."""
        return bool(set(OUTPUTS) & self.features)
