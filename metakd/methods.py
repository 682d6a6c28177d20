"""A distillation method is data: stages, each a sum of terms, each term one match of teacher and student."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from metakd.config import Task
from metakd.errors import InputError, nearest

Feature = Literal[
    "embedding", "hidden", "cls", "attention_scores", "attention_probabilities", "query_key_relation",
    "value_relation", "transferable", "logits", "label",
]  # fmt: skip
RowWeight = Literal["uniform", "prototype", "expertise", "expertise_released"]
Rows = Literal["labelled", "unlabelled", "other_domains", "extra"]
PRETRAINED = "pretrained"
# Stage names of the shipped methods: a task file may state a budget for each, whichever method it meets.
STAGES = ("general", "intermediate", "prediction", "long_prediction")


@dataclass
class Schedule:
    """A value that goes linearly from `start` to `end` in the course of a stage."""

    start: float
    end: float


@dataclass
class Term:
    """One term of a stage's objective: a number per row, weighted per row, then averaged and scaled.

    Args:
        feature: what is matched. "embedding" is the output of the embedding layer, "hidden" that of the mapped
            layers, "cls" the first token's state in them; "attention_scores" are raw scores (before the
            softmax); the relations are softmax(QK) and softmax(VV) of MiniLM; "transferable" is the domain
            head's feature h; "label" needs no teacher.
        loss: name of a per-row loss that fits the feature (metakd/objectives/terms.py); for "label" by default
            that of the problem type.
        scale: factor of the term in the objective.
        layers: "uniform" (student layer j learns from teacher layer j*Lt/Ls), "skip" and "last" (Patient KD:
            student layers 1 to Ls-1 learn from every Lt/Ls-th layer, or from the layers below the teacher's last
            one), "final" (the last layer from the last), or [[teacher, student], ...], counted from 1; 0 is the
            embedding layer.
        temperature: divides both logits; the loss is multiplied by its square. A number or {start: , end: }.
        heads: relation heads; by default the teacher's attention heads.
    """

    feature: Feature
    loss: str = ""
    scale: float = 1.0
    layers: Literal["uniform", "last", "skip", "final"] | list[list[int]] = "uniform"
    temperature: float | Schedule = 1.0
    heads: int | None = None

    def __post_init__(self) -> None:
        if not self.loss and self.feature != "label":
            raise InputError(f"a term on {self.feature} needs a loss")
        if self.scale <= 0:
            raise InputError(f"the scale of {self.feature} is {self.scale}; it must be above 0")
        ends = (self.temperature.start, self.temperature.end) if isinstance(self.temperature, Schedule) else ()
        for value in ends or (self.temperature,):
            if not isinstance(value, float | int) or value <= 0:
                raise InputError(f"temperature is {value}; it must be above 0")

    def temperature_at(self, share: float) -> float:
        """The temperature after a share (0 to 1) of the stage's steps."""
        if isinstance(self.temperature, Schedule):
            return self.temperature.start + share * (self.temperature.end - self.temperature.start)
        return self.temperature


@dataclass
class Stage:
    """A training run with one objective.

    Args:
        name: names its folder; `--stage NAME` runs it alone.
        terms: summed.
        epochs: passes over the rows, unless the task file says otherwise.
        learning_rate: peak rate.
        rows: what the student is shown: the domain's "labelled" rows, its "unlabelled" ones, the rows of
            "other_domains", and the "extra" rows of task.unlabelled.
        row_weight: of each row in every term: "uniform", "prototype" (t), "expertise" (lambda), or
            "expertise_released", which weighs whole batches, as the released code does.
        normalised: divide by the sum of the weights (true) or by the number of rows (false).
        teacher: "pretrained" learns from task.teacher before it was fine-tuned, a folder from the model there; by
            default from what --teacher or --logits names.
        select: which epoch is handed on: the one with the best dev score, or the last.
    """

    name: str
    terms: list[Term]
    epochs: int
    learning_rate: float
    rows: list[Rows] = field(default_factory=lambda: ["labelled"])
    row_weight: RowWeight = "uniform"
    normalised: bool = True
    teacher: str | None = None
    select: Literal["dev", "last"] = "dev"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.learning_rate <= 0 or not self.terms or not self.rows:
            raise InputError(f"stage {self.name}: needs epochs of at least 1, a learning_rate above 0, terms and rows")
        if self.row_weight == "expertise_released" and self.normalised:
            raise InputError(
                f"stage {self.name}: expertise_released gives all rows of a batch the same weight, which "
                "normalised: true divides away; set normalised: false"
            )

    @property
    def features(self) -> set[str]:
        return {term.feature for term in self.terms}

    @property
    def needs_logits(self) -> bool:
        """Whether the teacher's logits are used."""
        confident = self.row_weight == "prototype" and set(self.rows) != {"labelled"}
        return "logits" in self.features or self.row_weight.startswith("expertise") or confident

    @property
    def needs_inside(self) -> bool:
        """Whether more than the teacher's logits is matched."""
        return bool(self.features - {"logits", "label"})


@dataclass
class Method:
    """A distillation method.

    Args:
        stages: run in this order, each from the student that the one before left.
        average: what is averaged where --teacher names several: their "probabilities" or their "logits".
        teacher_weights: of each teacher in that average, in the order of --teacher; equal by default.
    """

    stages: list[Stage]
    average: Literal["probabilities", "logits"] = "probabilities"
    teacher_weights: list[float] | None = None

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise InputError(f"a method needs stages with different names, not {names}")
        classifies = False
        for stage in self.stages:
            classifies = classifies or bool({"logits", "label"} & stage.features)
            if stage.select == "dev" and not classifies:
                raise InputError(f"stage {stage.name}: select: dev needs a trained classifier; set select: last")
        if self.teacher_weights is not None and (
            min(self.teacher_weights, default=0) < 0 or not any(self.teacher_weights)
        ):
            raise InputError(f"teacher_weights are {self.teacher_weights}; they must be 0 or above, one of them above")

    def check_stages(self, task: Task) -> None:
        """Refuse a task that the stages do not fit, or a task file with a budget for a stage that nobody knows."""
        for stage in self.stages:
            if stage.row_weight.startswith("expertise") and task.problem != "single_label":
                raise InputError(
                    f"stage {stage.name}: row_weight {stage.row_weight} needs one true class per row, which a "
                    f"{task.problem} task does not have; use uniform or prototype"
                )
            if "extra" in stage.rows:
                task.require("unlabelled")
        known = list(dict.fromkeys(["teacher", *(stage.name for stage in self.stages), *STAGES]))
        for name in (*task.epochs, *task.learning_rates):
            if name not in known:
                raise InputError(f"task.epochs, learning_rates: no stage {name!r} among {known}{nearest(name, known)}")
