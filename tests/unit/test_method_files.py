"""Method files: those that are shipped, what a stage needs of its teacher, and every value that is refused."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metakd.config import FreshStudent, StudentFromTeacher, Task
from metakd.errors import InputError
from metakd.methods.method import Method, Prototypes, TeacherRecipe
from metakd.methods.stage import PRETRAINED, Schedule, Stage, Term
from metakd.objectives.terms import bind
from tests.conftest import ROOT, method_file, read_yaml, tiny_config

LOGITS, LABEL, HIDDEN = Term("logits", "kl"), Term("label"), Term("hidden", "mse")
MIX = TeacherRecipe("mix", epochs=1, learning_rate=1e-3)
NONE = TeacherRecipe("none")
TASK = Task("train.tsv", "dev.tsv", "test.tsv", "encoder", "student")


def stage(*terms: Term, name: str = "stage", **options: Any) -> Stage:
    return Stage(name, list(terms), 1, 1e-3, **options)


SHIPPED = [*(ROOT / "experiments/methods").glob("*.yaml"), *(ROOT / "experiments/studies/tuned").glob("*.yaml")]


@pytest.mark.parametrize("path", sorted(SHIPPED), ids=lambda path: path.name)
def test_every_shipped_method_loads_and_binds(path: Path) -> None:
    method = read_yaml(path, Method)
    assert isinstance(method, Method)
    for s in method.stages:
        assert len(bind(s.terms, tiny_config(layers=4), tiny_config(layers=2), "single_label")) == len(s.terms)


def test_meta_kd_is_the_papers() -> None:
    """Section 3 of the paper, as far as it gives values; the training budget is not part of it."""
    method = read_yaml(method_file("metakd"), Method)
    recipe, (intermediate, prediction) = method.teacher, method.stages
    assert method.prototypes == Prototypes("paper", 0.5)
    assert (recipe.kind, recipe.row_weight, recipe.domain_row_weight) == ("meta", "prototype", "uniform")
    assert (recipe.domain_loss_weight, recipe.false_labels, recipe.divide_by) == (0.1, "other_domains", "rows")
    assert [term.feature for term in intermediate.terms] == ["embedding", "hidden", "attention_scores", "transferable"]
    assert {term.loss for term in intermediate.terms} == {"mse"}
    assert [(term.feature, term.loss) for term in prediction.terms] == [("logits", "soft_cross_entropy")]
    assert {s.row_weight for s in method.stages} == {"expertise"}


def test_an_unknown_key_of_a_term_is_named(tmp_path: Path) -> None:
    path = tmp_path / "method.yaml"
    path.write_text(
        "teacher: {kind: none}\n"
        "stages: [{name: one, epochs: 1, learning_rate: 1, terms: [{feature: label, temprature: 2}]}]\n"
    )
    with pytest.raises(InputError, match="'temprature'"):
        read_yaml(path, Method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature": "hidden"}, "a term on hidden needs a loss"),
        ({"feature": "label", "scale": 0.0}, r"the term on label: scale is 0\.0; it must be above 0"),
        ({"feature": "logits", "loss": "kl", "temperature": 0.0}, r"the term on logits: temperature is 0\.0"),
        (
            {"feature": "logits", "loss": "kl", "temperature": Schedule(-1.0, 1.0)},
            r"the term on logits: temperature\.start is -1\.0",
        ),
        (
            {"feature": "logits", "loss": "kl", "temperature": Schedule(1.0, 0.0)},
            r"the term on logits: temperature\.end is 0\.0",
        ),
    ],
)
def test_a_term_that_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Term(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "stage p: epochs is 0; it must be at least 1"),
        ({"learning_rate": 0.0}, r"stage p: learning_rate is 0\.0; it must be above 0 and at most 1"),
        ({"terms": []}, "stage p: needs terms"),
        ({"rows": []}, "stage p: needs terms and rows"),
        ({"row_weight": "expertise_easynlp"}, "stage p: expertise_easynlp .*; set divide_by: rows"),
    ],
)
def test_a_stage_that_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Stage(**{"name": "p", "terms": [LOGITS], "epochs": 1, "learning_rate": 1e-3, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.1}, r"prototypes\.alpha is 1\.1; it must be from 0 to 1"),
        ({"alpha": -0.1}, r"prototypes\.alpha is -0\.1"),
        ({"alpha": math.nan}, r"prototypes\.alpha is nan"),
        ({"variant": "easynlp", "alpha": 0.3}, r"prototypes\.alpha is 0\.3, but variant: easynlp weighs both"),
    ],
)
def test_prototypes_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Prototypes(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "meta", "domain_loss_weight": -0.5}, r"teacher\.domain_loss_weight is -0\.5"),
        ({"kind": "meta"}, r"teacher\.kind: meta needs row_weight: prototype or a domain_loss_weight; .* kind: mix"),
        ({"kind": "mix", "row_weight": "prototype"}, r"teacher\.kind: mix has neither row weights nor a domain loss"),
        ({"kind": "mtl", "domain_row_weight": "prototype"}, r"teacher\.kind: mtl has neither .*; say kind: meta"),
        ({"kind": "single", "domain_loss_weight": 0.5}, r"teacher\.kind: single has neither"),
        ({"kind": "mtl", "row_weight": "balanced"}, r"teacher\.kind: mtl has no row weights"),
        ({"kind": "mix", "epochs": 0}, r"teacher: needs epochs of at least 1"),
        ({"kind": "mix", "learning_rate": 0.0}, r"teacher: needs .* a learning_rate above 0"),
        (
            {"kind": "multi", "average_weights": [1.0, -1.0]},
            r"teacher\.average_weights is \[1\.0, -1\.0\]: an entry is -1\.0",
        ),
        ({"kind": "multi", "average_weights": [0.0, 0.0]}, r"teacher\.average_weights are \[0\.0, 0\.0\]"),
        ({"kind": "multi", "average_weights": []}, r"teacher\.average_weights is \[\]"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TeacherRecipe(**{"epochs": 1, "learning_rate": 1e-3, **options})


META = TeacherRecipe("meta", "prototype", epochs=1, learning_rate=1e-3)
MULTI = replace(MIX, kind="multi")
LAST = {"select": "last"}


@pytest.mark.parametrize(
    ("teacher", "stages", "prototypes", "message"),
    [
        (MIX, [], None, r"needs stages with different names, not \[\]"),
        (MIX, [stage(LOGITS), stage(LOGITS)], None, r"different names, not \['stage', 'stage'\]"),
        (META, [stage(LOGITS)], None, r"teacher is weighted by prototype scores; add prototypes"),
        (MIX, [stage(LOGITS, row_weight="expertise")], None, r"stage is weighted by prototype scores; add prototypes"),
        (MIX, [stage(LOGITS)], Prototypes(), r"nothing in this method is weighted .*; leave prototypes out"),
        (MIX, [stage(HIDDEN)], None, r"stage stage: select: dev needs a trained classifier; set select: last"),
        (NONE, [stage(LOGITS)], None, r"stage stage learns from a teacher, but teacher\.kind is none"),
        (NONE, [stage(HIDDEN, **LAST)], None, r"stage stage learns from a teacher, but teacher\.kind is none"),
        (MULTI, [stage(HIDDEN, LOGITS)], None, r"stage stage matches hidden, logits; several teachers"),
    ],
)
def test_a_method_that_does_not_fit_is_refused(
    teacher: TeacherRecipe, stages: list[Stage], prototypes: Prototypes | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Method(teacher, stages, prototypes)


def test_a_stage_may_have_a_teacher_where_the_method_has_none() -> None:
    general = stage(HIDDEN, teacher=PRETRAINED, **LAST)
    assert not Method(NONE, [general]).trains_classifier
    assert Method(NONE, [general, stage(LABEL, name="labels")]).trains_classifier
    assert Method(MULTI, [general, stage(LOGITS, name="logits")]).trains_classifier


@pytest.mark.parametrize(
    ("problem", "row_weight", "fits"),
    [("single_label", "expertise", True), ("multi_label", "prototype", True), ("multi_label", "expertise", False),
     ("multi_label", "shuffled_expertise", False),
     ("single_label", "balanced", True), ("multi_label", "balanced", False),
     ("regression", "expertise_easynlp", False)],
)  # fmt: skip
def test_expertise_needs_one_true_class_per_row(problem: Any, row_weight: Any, fits: bool) -> None:
    prototypes = None if row_weight == "balanced" else Prototypes()
    method = Method(MIX, [stage(LOGITS, row_weight=row_weight, divide_by="rows")], prototypes)
    task = replace(TASK, problem=problem)
    if fits:
        method.check_task(task)
    else:
        with pytest.raises(InputError, match=rf"stage stage: row_weight {row_weight} .* {problem} task"):
            method.check_task(task)
        recipe = replace(MIX, row_weight="balanced")
        with pytest.raises(InputError, match=rf"teacher\.row_weight: balanced .* {problem} task"):
            recipe.check_task(task)


def test_extra_rows_need_an_unlabelled_table() -> None:
    with pytest.raises(InputError, match=r"task\.unlabelled: no table is named"):
        Method(MIX, [stage(LOGITS, rows=["extra"])]).check_task(TASK)


@pytest.mark.parametrize(("teacher", "message"), [(NONE, "no teacher"), (MULTI, "several teachers")])
def test_a_student_is_not_cut_from_a_teacher_that_is_not_there(teacher: TeacherRecipe, message: str) -> None:
    method = Method(teacher, [stage(LABEL)])
    with pytest.raises(InputError, match=rf"starts from the teacher, but the method has {message} .*of: pretrained"):
        method.check_student(replace(TASK, student=StudentFromTeacher(2)))
    for student in (StudentFromTeacher(2, of="pretrained"), FreshStudent(8, 2), "folder"):
        method.check_student(replace(TASK, student=student))
    Method(MIX, [stage(LOGITS)]).check_student(replace(TASK, student=StudentFromTeacher(2)))


@pytest.mark.parametrize(
    ("s", "prototypes", "logits", "activations", "method_teacher", "classifier"),
    [
        (stage(LOGITS), False, True, False, True, True),
        (stage(LABEL), False, False, False, False, True),
        (stage(HIDDEN, LABEL), False, False, True, True, True),
        (stage(HIDDEN, teacher=PRETRAINED), False, False, True, False, False),
        (stage(HIDDEN, row_weight="expertise"), True, True, True, True, False),
        (stage(LABEL, row_weight="prototype"), True, False, False, False, True),
        (stage(LABEL, row_weight="shuffled_prototype"), True, False, False, False, True),
        (stage(LABEL, row_weight="shuffled_expertise"), True, True, False, True, True),
        (stage(LABEL, row_weight="balanced"), False, False, False, False, True),
        (stage(HIDDEN, row_weight="balanced", rows=["labelled", "unlabelled"]), False, True, True, True, False),
        # The teacher's confidence weighs rows without label.
        (stage(LABEL, row_weight="prototype", rows=["labelled", "unlabelled"]), True, True, False, True, True),
    ],
)
def test_what_a_stage_needs(
    s: Stage, prototypes: bool, logits: bool, activations: bool, method_teacher: bool, classifier: bool
) -> None:
    assert (s.needs_prototypes, s.needs_logits, s.needs_activations) == (prototypes, logits, activations)
    assert (s.needs_method_teacher, s.trains_classifier) == (method_teacher, classifier)


def test_a_temperature_moves_linearly_over_the_stage() -> None:
    term = Term("logits", "kl", temperature=Schedule(4.0, 1.0))
    assert [term.temperature_at(progress) for progress in (0.0, 0.5, 1.0)] == [4.0, 2.5, 1.0]
    assert Term("logits", "kl", temperature=3.0).temperature_at(0.5) == 3.0
