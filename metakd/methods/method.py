"""A method file: prototype weights, teacher and student stages. Two methods differ by two files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metakd.config import Task, starts_from_teacher
from metakd.errors import InputError
from metakd.methods.stage import FROM_CLASSES, Denominator, Stage
from metakd.ranges import Count, Fraction, NotNegative, NotNegativeCount, check_fields

TeacherKind = Literal["meta", "mix", "single", "mtl", "multi", "none"]


@dataclass
class Prototypes:
    """How the prototype score t of a row is computed (Meta-KD, section 3.2).

    Args:
        variant: "paper" compares a row with the prototypes of its class; "easynlp" (EasyNLP's code) with one
            prototype per domain.
        alpha: weight of the row's own domain in the paper's variant, 0 to 1.
    """

    variant: Literal["paper", "easynlp"] = "paper"
    alpha: Fraction = 0.5

    def __post_init__(self) -> None:
        check_fields(self, "prototypes.")
        if self.variant == "easynlp" and self.alpha != 0.5:
            raise InputError(
                f"prototypes.alpha is {self.alpha}, but variant: easynlp weighs both parts by 0.5; leave alpha out"
            )


@dataclass
class TeacherRecipe:
    """How the method's teacher is trained.

    Args:
        kind: "meta": one model on all domains, with prototype weights or a domain loss (Meta-KD). "mix": one model on
            all domains. "single": one model per domain, on that domain's rows; the student learns from its domain's.
            "mtl": the domains share an encoder, each has a classification head. "multi": the "single" teachers of all
            domains, averaged. "none": the method has no teacher.
        row_weight: of each row's cross-entropy: "prototype" (t), "uniform", or "shuffled_prototype", a placebo that
            deals the same weights out at random among the rows of a domain. "balanced": all classes count alike, for
            every kind but "mtl".
        domain_loss_weight: scale g1 of the domain loss; 0 trains without domain head.
        domain_row_weight: of each row's domain loss: "uniform" (the paper), or "prototype" (EasyNLP).
        false_labels: the domain labels z of the domain loss: "other_domains" draws each z from the other domains
            (the paper); "permuted" permutes the true labels of the batch, so that some stay true (EasyNLP).
        divide_by: each term is divided by the number of "rows" (the paper's plain sum), or by the sum of its "weights".
        epochs: passes over the rows; `task.epochs_scale` multiplies them.
        min_steps: least number of optimizer steps; see `Stage`.
        learning_rate: peak learning rate.
        soup: runs from the same start, whose weights are averaged; see `Stage`.
        average: what is averaged over several teachers: their "probabilities" or their "logits".
        average_weights: of each teacher in that average; equal by default.
    """

    kind: TeacherKind
    row_weight: Literal["uniform", "balanced", "prototype", "shuffled_prototype"] = "uniform"
    domain_loss_weight: NotNegative = 0.0
    domain_row_weight: Literal["uniform", "prototype"] = "uniform"
    false_labels: Literal["other_domains", "permuted"] = "other_domains"
    divide_by: Denominator = "rows"
    epochs: NotNegativeCount = 0
    learning_rate: Fraction = 0.0
    min_steps: NotNegativeCount = 0
    average: Literal["probabilities", "logits"] = "probabilities"
    average_weights: list[NotNegative] | None = None
    soup: Count = 1

    def __post_init__(self) -> None:
        check_fields(self, "teacher.")
        weighted = self.needs_prototypes
        if self.kind in ("mtl", "none") and self.row_weight == "balanced":
            raise InputError(f"teacher.kind: {self.kind} has no row weights; leave row_weight out, or say kind: mix")
        if self.kind == "meta" and not (weighted or self.domain_loss_weight):
            raise InputError("teacher.kind: meta needs row_weight: prototype or a domain_loss_weight; or say kind: mix")
        if self.kind != "meta" and (weighted or self.domain_loss_weight):
            raise InputError(f"teacher.kind: {self.kind} has neither row weights nor a domain loss; say kind: meta")
        if self.kind != "none" and (self.epochs < 1 or self.learning_rate <= 0):
            raise InputError("teacher: needs epochs of at least 1 and a learning_rate above 0")
        weights = self.average_weights
        if weights is not None and not any(weights):
            raise InputError(f"teacher.average_weights are {weights}; at least one must be above 0")

    @property
    def needs_prototypes(self) -> bool:
        return self.row_weight not in FROM_CLASSES or self.domain_row_weight != "uniform"

    def check_task(self, task: Task) -> None:
        """Refuse a task that the row weights do not fit."""
        if self.row_weight == "balanced" and task.problem != "single_label":
            raise InputError(
                f"teacher.row_weight: balanced needs one true class per row, which a {task.problem} task does not "
                "have; use uniform or prototype"
            )


@dataclass
class Method:
    """A distillation method.

    Args:
        teacher: how its teacher is trained.
        stages: how the student is trained, one stage after the other.
        prototypes: how prototype scores are computed; left out where nothing is weighted by them.
        one_student: one student for all domains, instead of one for each. Where a student is shown the rows of all
            domains, unweighted, and its last epoch is saved, those of the single domains would be equal.
    """

    teacher: TeacherRecipe
    stages: list[Stage]
    prototypes: Prototypes | None = None
    one_student: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "method.")
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise InputError(f"a method needs stages with different names, not {names}")
        weighted = ["teacher"] * self.teacher.needs_prototypes + [s.name for s in self.stages if s.needs_prototypes]
        if weighted and self.prototypes is None:
            raise InputError(f"{weighted[0]} is weighted by prototype scores; add prototypes: {{variant: paper}}")
        if self.prototypes is not None and not weighted:
            raise InputError("nothing in this method is weighted by prototype scores; leave prototypes out")
        if self.one_student and self.teacher.kind in ("single", "mtl"):
            raise InputError(f"one_student: teacher.kind {self.teacher.kind} trains a teacher for each domain")
        trained = False
        for stage in self.stages:
            trained = trained or stage.trains_classifier
            if stage.select == "dev" and not trained:
                raise InputError(f"stage {stage.name}: select: dev needs a trained classifier; set select: last")
            if self.teacher.kind == "none" and stage.needs_method_teacher:
                raise InputError(f"stage {stage.name} learns from a teacher, but teacher.kind is none")
            if self.teacher.kind == "multi" and stage.teacher is None and stage.needs_activations:
                raise InputError(
                    f"stage {stage.name} matches {', '.join(sorted(stage.features))}; several teachers have an average "
                    "of their logits only"
                )

    @property
    def trains_classifier(self) -> bool:
        """Whether the product is a classifier; else it is an encoder."""
        return any(stage.trains_classifier for stage in self.stages)

    def check_task(self, task: Task) -> None:
        """Refuse a task that the teachers, the row weights or the stages do not fit."""
        if task.own_labels and self.teacher.kind == "multi":
            raise InputError(
                "task.own_labels: teacher.kind multi averages the teachers of all domains, which do not know each "
                "other's classes; use kind mix or meta"
            )
        self.teacher.check_task(task)
        for stage in self.stages:
            one_class = stage.row_weight == "balanced" or stage.weights_before_shuffling.startswith("expertise")
            if one_class and task.problem != "single_label":
                raise InputError(
                    f"stage {stage.name}: row_weight {stage.row_weight} needs one true class per row, which a "
                    f"{task.problem} task does not have; use uniform or prototype"
                )
            weighted = stage.row_weight != "uniform" and "other_domains" in stage.rows
            if task.own_labels and weighted and task.problem != "single_label":
                raise InputError(
                    f"stage {stage.name}: with task.own_labels, rows of other_domains have no label of a student's; in "
                    f"a {task.problem} task their row_weight must be uniform"
                )
            if "extra" in stage.rows:
                task.require("unlabelled")

    def check_student(self, task: Task) -> None:
        """Refuse a student that is cut from a teacher which the method does not have."""
        if starts_from_teacher(task.student) and self.teacher.kind in ("none", "multi"):
            what = "no teacher" if self.teacher.kind == "none" else "several teachers"
            raise InputError(
                f"task.student starts from the teacher, but the method has {what} (teacher.kind: {self.teacher.kind}); "
                "let it start from the pretrained encoder: add of: pretrained"
            )
