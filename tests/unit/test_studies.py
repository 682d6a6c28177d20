"""Study files, and the plans made from them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from metakd.config import StudentFromTeacher, Task
from metakd.data.tables import read_rows, write_rows
from metakd.errors import InputError
from metakd.methods.method import Method
from metakd.studies.changes import read_settings
from metakd.studies.estimate import plan_blocks
from metakd.studies.grid import plan_study
from metakd.studies.plan import Plan
from metakd.studies.study import Study, StudyMethod, student_text
from metakd.studies.translations import of_translations
from metakd.translation.settings import TranslationMethod, TranslationTask
from tests.conftest import ROOT, Tables, method_file, read_yaml, write_yaml

METAKD, VANILLA, TINYBERT = (StudyMethod(str(method_file(name))) for name in ("metakd", "vanilla", "tinybert"))


@pytest.fixture
def make_study(tmp_path: Path, tables: Tables, pretrained: Path) -> Callable[..., Study]:
    """A study of one tiny task; options are fields of `Study`."""
    student = StudentFromTeacher(2, of="pretrained")
    paths = [str(tables[name]) for name in ("train", "dev", "test")]
    task = write_yaml(tmp_path / "tiny.yaml", Task(*paths, str(pretrained), student))

    def make(**options: Any) -> Study:
        fields = {"tasks": [str(task)], "methods": {"metakd": METAKD}, "reference": "metakd", "seeds": [1], **options}
        return Study(**fields)

    return make


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "experiments/studies").glob("*.yaml"))])
def test_every_shipped_study_and_its_methods_load(name: str) -> None:
    study = read_yaml(ROOT / "experiments/studies" / f"{name}.yaml", Study)
    study.tasks = [str(ROOT / file) for file in study.tasks]
    kinds: tuple[type, type] = (TranslationMethod, TranslationTask) if of_translations(study) else (Method, Task)
    for variant in study.methods.values():
        read_settings("method", kinds[0], str(ROOT / variant.file), variant.change)
    for file in study.tasks:
        read_settings("task", kinds[1], file, study.task_changes(1, None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "metkd"}, r"study\.reference is 'metkd'.*did you mean 'metakd'"),
        ({"tasks": ["a/x.yaml", "b/x.yaml"]}, r"study\.tasks are \['x', 'x'\].*each once"),
        ({"tasks": []}, r"study\.tasks are \[\]; name at least one"),
        ({"folds": True}, r"study\.folds is true, and there is one task"),
        ({"seeds": [1, 1]}, r"study\.seeds are \[1, 1\].*each once"),
        ({"fractions": [1.0, 1.5]}, r"study\.fractions is \[1\.0, 1\.5\]: an entry is 1\.5; it must be from 0 to 1"),
        ({"methods": {"metakd": METAKD, False: METAKD}}, r"study: the names .*False.*quotes"),
        ({"methods": {"metakd": METAKD, "majority": METAKD}}, "'majority' is the name of a control"),
        ({"seeds": [-1]}, r"study\.seeds is \[-1\]: an entry is -1; it must be at least 0"),
        ({"overrides": {1: 2}}, r"study: the names \[1\] are not all text"),
        ({"overrides": {"epochs_scale": 1}}, r"study\.overrides: 'epochs_scale'.*task\.epochs_scale"),
        ({"overrides": {"task.training.seed": 1}}, r"study\.overrides: task\.training\.seed.*seeds"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    fields = {"tasks": ["x.yaml"], "methods": {"metakd": METAKD}, "reference": "metakd"}
    with pytest.raises(InputError, match=message):
        Study(**{**fields, **options})


def test_changed_values_reach_the_method_and_the_command_line() -> None:
    change = {
        "teacher.domain_loss_weight": 0.0,
        "prototypes.alpha": 0.25,
        "stages.prediction.row_weight": "shuffled_expertise",
        "stages.intermediate.terms.hidden.scale": 0.5,
        "stages.intermediate.terms.transferable": None,
    }
    method, options = read_settings("method", Method, METAKD.file, change)
    stage, prediction = method.stages
    assert method.teacher.domain_loss_weight == 0 and method.prototypes and method.prototypes.alpha == 0.25
    assert [(term.feature, term.scale) for term in stage.terms] == [
        ("embedding", 1), ("hidden", 0.5), ("attention_scores", 1),
    ]  # fmt: skip
    assert (stage.row_weight, prediction.row_weight) == ("expertise", "shuffled_expertise")
    assert read_yaml(Path(METAKD.file), Method, *(o.replace("--method", "--file") for o in options[1:])) == method
    one_stage, _ = read_settings("method", Method, METAKD.file, {"stages.intermediate": None})
    assert one_stage.stages == read_yaml(Path(METAKD.file), Method).stages[1:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages.predicton.row_weight": "uniform"}, "'predicton' is not among .*did you mean 'prediction'"),
        ({"stages.prediction.terms.logits": 2}, "name a value of 'logits'"),
        ({"stages.prediction.epochs.x": 2}, "'epochs' of 'prediction' has no parts"),
        ({"teacher.row_wait": "uniform"}, "teacher.row_wait"),
        ({"teacher.epochs": 0}, "epochs of at least 1"),
    ],
)
def test_a_change_that_fits_nothing_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_settings("method", Method, METAKD.file, change)


def test_a_student_in_words() -> None:
    assert student_text(StudentFromTeacher(3, of="pretrained")) == "layers: 3, of: pretrained"
    assert student_text("some/folder") == "some/folder"


def kinds_of(plan: Plan) -> list[str]:
    return [step.kind for step in plan.steps.values()]


def test_each_step_is_planned_once(tmp_path: Path, make_study: Callable[..., Study]) -> None:
    methods = {"metakd": METAKD, "vanilla": VANILLA, "tinybert": TINYBERT}
    controls = ["majority", "embeddings", "teacher"]
    study = make_study(methods=methods, seeds=[1, 2], domains=["books", "films"], controls=controls)
    plan = plan_study(study, tmp_path / "out")
    # Two seeds and domains of three methods, their teachers, and two controls.
    assert len(plan.cells) == 2 * 2 * (3 + 3 + 2)
    kinds = kinds_of(plan)
    assert kinds.count("embeddings") == 1  # no seed changes them
    assert kinds.count("weights") == 2 and kinds.count("check") == 3
    assert kinds.count("teacher") == 2 * 2  # vanilla and tinybert share theirs
    assert kinds.count("student") == 12 and kinds.count("evaluation") == 12 + 8 and kinds.count("control") == 8
    order = list(plan.steps)
    for step in plan.steps.values():
        assert all(order.index(out) < order.index(step.out) for out in step.needs)
    for planned in plan.cells.values():
        inside = set(planned.steps)
        assert all(inside.issuperset(plan.steps[out].needs) for out in planned.steps)
    teachers = [planned for planned in plan.cells.values() if planned.cell.kind == "teacher"]
    assert len({planned.key for planned in teachers}) == 8  # the shared teacher is one result under two names
    assert len(plan.unfinished(lambda planned: False).cells) == 12 + 8 + 4  # controls without seeds are one result


def test_models_answer_with_their_domains_classes(
    tmp_path: Path, make_study: Callable[..., Study], tables: Tables
) -> None:
    for path in tables.values():
        rows = [
            {**row, "label": "dull 😴"} if (row["domain"], row["label"]) == ("films", "negative") else row
            for row in read_rows(path)
        ]
        write_rows(path, rows)
    own = {"task.own_labels": True, "task.labels": ["positive", "negative", "dull 😴"]}
    plan = plan_study(make_study(controls=["teacher"], overrides=own), tmp_path)
    evaluations = [step for step in plan.steps.values() if step.kind == "evaluation"]
    assert len(evaluations) == 6  # of the teacher, too
    for step in evaluations:
        classes = ["positive", "dull 😴" if step.selection.domain == "films" else "negative"]  # as task.labels has them
        (option,) = step.options
        assert yaml.safe_load(option.removeprefix("--classes=")) == classes  # as command lines are read
    with pytest.raises(InputError, match=r"labels of domain 'films' are hidden, but .* classes \['dull 😴'\]"):
        plan_study(make_study(overrides=own, exclude_domain=True), tmp_path)


def test_a_plan_leaves_out_what_is_finished(tmp_path: Path, make_study: Callable[..., Study]) -> None:
    study = make_study(methods={"metakd": METAKD, "vanilla": VANILLA}, domains=["books", "films"])
    plan = plan_study(study, tmp_path)
    left = plan.unfinished(lambda planned: planned.cell.method == "metakd" or planned.cell.domain == "books")
    assert kinds_of(left) == ["check", "teacher", "evaluation", "student", "evaluation"]
    assert not plan.unfinished(lambda planned: True).steps


def test_what_single_and_several_teachers_need(tmp_path: Path, make_study: Callable[..., Study]) -> None:
    kinds = {kind: replace(VANILLA, change={"teacher.kind": kind}) for kind in ("single", "multi", "mtl")}
    for name, teachers, evaluations in (("single", 1, 2), ("multi", 3, 1), ("mtl", 1, 2)):
        plan = plan_study(make_study(methods={"metakd": kinds[name]}, domains=["books"]), tmp_path)
        assert (kinds_of(plan).count("teacher"), kinds_of(plan).count("evaluation")) == (teachers, evaluations), name
        student = next(step for step in plan.steps.values() if step.kind == "student")
        assert len(student.teachers) == teachers
    assert student.teachers[0].name == "books"  # mtl: the head of this domain


def test_few_labels_and_excluded_domains_hide_labels_from_the_teacher(
    tmp_path: Path, make_study: Callable[..., Study]
) -> None:
    study = make_study(domains=["books"], fractions=[0.5], controls=["tfidf"])
    steps = {step.kind: step for step in plan_study(study, tmp_path).steps.values()}
    for kind in ("weights", "teacher", "student", "control"):
        assert steps[kind].selection.options() == ["--domain=books", "--fraction=0.5"], kind
    steps = {step.kind: step for step in plan_study(replace(study, exclude_domain=True), tmp_path).steps.values()}
    assert steps["teacher"].selection.options() == ["--exclude_domain=books"]
    assert steps["student"].selection.options() == ["--domain=books", "--fraction=0.5"]


def keys(study: Study, folder: Path) -> dict[tuple[str, int], str]:
    return {(cell.method, cell.seed): planned.key for cell, planned in plan_study(study, folder).cells.items()}


def test_a_key_stands_for_content(tmp_path: Path, make_study: Callable[..., Study], tables: Tables) -> None:
    study = make_study(domains=["books"], controls=["tfidf"], seeds=[1, 2])
    before = keys(study, tmp_path)
    assert before["tfidf", 1] == before["tfidf", 2] and before["metakd", 1] != before["metakd", 2]
    renamed = replace(study, methods={"ours": METAKD}, reference="ours")
    assert keys(renamed, tmp_path / "elsewhere")["ours", 1] == before["metakd", 1]
    for name, options in {
        "method": {"methods": {"metakd": replace(METAKD, change={"prototypes.alpha": 0.1})}},
        "student": {"students": [StudentFromTeacher(1, of="pretrained")]},
        "task": {"overrides": {"task.epochs_scale": 2.0}},
        "fraction": {"fractions": [0.5]},
        "exclusion": {"exclude_domain": True},
        "score": {"select_by": "macro_f1"},
        "domain": {"domains": ["films"]},
    }.items():
        assert keys(replace(study, **options), tmp_path)["metakd", 1] not in before.values(), name
    few = keys(replace(study, fractions=[0.5]), tmp_path)
    assert few["tfidf", 1] != few["tfidf", 2]  # the seed chooses the visible labels
    rows = list(read_rows(tables["test"]))
    write_rows(tables["test"], rows[1:])
    assert not set(keys(study, tmp_path).values()) & set(before.values())


def test_a_plan_refuses_what_does_not_fit(tmp_path: Path, make_study: Callable[..., Study]) -> None:
    with pytest.raises(InputError, match=r"study\.domains: task tiny has no 'boks'.*did you mean 'books'"):
        plan_study(make_study(domains=["boks"]), tmp_path)
    label_only = StudyMethod(str(method_file("label_only")))
    with pytest.raises(InputError, match=r"study\.methods: metakd on task tiny: task\.student starts from the teacher"):
        plan_study(make_study(methods={"metakd": label_only}, students=[StudentFromTeacher(2)]), tmp_path)
    # Every class name is also a set of names, so the tables fit a multi-label task too.
    with pytest.raises(InputError, match=r"study\.controls: tfidf needs one class per row.*multi_label task tiny"):
        options = {"methods": {"metakd": label_only}, "overrides": {"task.problem": "multi_label"}}
        plan_study(make_study(controls=["tfidf"], **options), tmp_path)


def test_the_estimate_is_the_mean_of_finished_cells(tmp_path: Path, make_study: Callable[..., Study]) -> None:
    plan = plan_study(make_study(domains=["books", "films"]), tmp_path)
    kinds = ("check", "embeddings", "weights", "teacher", "student", "evaluation")
    keys = [planned.key for cell, planned in plan.cells.items() if cell.kind == "method"]
    cells = [{"key": key, "seconds": dict.fromkeys(kinds, s)} for key, s in zip(keys, (30.0, 90.0), strict=False)]
    _, table, estimate = plan_blocks(plan, plan.unfinished(lambda planned: False), cells, 2)
    # One each of the first four, two students, evaluations of these and twice of the teacher, one analysis. A cell has
    # two evaluations, so one takes half of the cell's time: 8.5 minutes.
    assert table.rows[4:] == [
        ["evaluation", "4", "30.0", "2.0"], ["student", "2", "60.0", "2.0"], ["analysis", "1", "30.0", "0.5"],
    ]  # fmt: skip
    assert "About 4.2 minutes with 2 steps at a time, by the mean of 2 finished cells." in estimate
    assert "no estimate" in str(plan_blocks(plan, plan, [], 1)[-1])
    assert "At least 2.0 minutes" in str(
        plan_blocks(plan, plan, [{"key": keys[0], "seconds": {"student": 60.0}}], 1)[-1]
    )


def test_a_method_can_have_a_student_of_its_own(make_study: Callable[..., Study], tmp_path: Path) -> None:
    own = StudyMethod(VANILLA.file, student=StudentFromTeacher([1, 4]))
    study = make_study(methods={"metakd": METAKD, "vanilla": VANILLA, "cut": own}, controls=["majority"])
    cells = [cell for cell in plan_study(study, tmp_path).cells if cell.domain == "books"]
    expected = {"metakd": "layers: 2, of: pretrained", "vanilla": "layers: 2, of: pretrained", "cut": "layers: [1, 4]"}
    assert {cell.method: cell.student for cell in cells} == {**expected, "majority": ""} and len(cells) == 4


def test_every_method_can_be_given_a_placebo() -> None:
    for name in ("label_only", "vanilla", "minilm", "metakd_easynlp", "new_domain"):
        change = {"prototypes": {"variant": "paper"}, "stages.prediction.row_weight": "shuffled_prototype"}
        method, _ = read_settings("method", Method, str(method_file(name)), change)
        assert method.stages[-1].weights_before_shuffling == "prototype" and method.stages[-1].needs_prototypes
    with pytest.raises(InputError, match="add prototypes"):
        read_settings("method", Method, VANILLA.file, {"stages.prediction.row_weight": "shuffled_expertise"})
    teacher, _ = read_settings("method", Method, METAKD.file, {"teacher.row_weight": "shuffled_prototype"})
    assert teacher.teacher.needs_prototypes
