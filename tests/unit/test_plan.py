"""What a run reads and where it writes, as the plan says it."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metakd.config import Student, StudentFromTeacher, Task
from metakd.errors import InputError
from metakd.methods.method import Method, Prototypes, TeacherRecipe
from metakd.methods.stage import Stage, Term
from metakd.training.plan import (
    DomainSelection,
    RunFolder,
    differences,
    plan_distillation,
    plan_teacher,
    scaled_budget,
    teacher_facts,
)
from tests.conftest import CUT, DOMAINS, method_file, read_yaml

LOGITS = Term("logits", "kl")
BOOKS = DomainSelection("books")
RUN = RunFolder(Path("run"), Path("run/method"))


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """A task whose tables exist."""
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").touch()
    return Task(str(tmp_path / "train.tsv"), str(tmp_path / "dev.tsv"), "test.tsv", "pretrained", CUT)


@functools.cache
def shipped(name: str) -> Method:
    return read_yaml(method_file(name), Method)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("books", 1.5), r"fraction is 1\.5; it must be from 0 to 1"),
        (("books", -0.1), r"fraction is -0\.1"),
        (("", 0.5), r"fraction is 0\.5, but of no domain"),
    ],
)
def test_a_fraction_that_does_not_fit_is_refused(fields: tuple[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DomainSelection(*fields)


def test_a_domain_that_the_task_lacks_is_refused() -> None:
    DomainSelection("books", exclude_domain="films").check_domains(DOMAINS)
    with pytest.raises(InputError, match=r"domain is 'boks'; the task's domains are .*did you mean 'books'"):
        DomainSelection("boks").check_domains(DOMAINS)
    with pytest.raises(InputError, match="exclude_domain is 'toys'"):
        DomainSelection(exclude_domain="toys").check_domains(DOMAINS)


def test_a_selection_as_options() -> None:
    assert DomainSelection().options() == []
    assert DomainSelection("a b", 0.01, "c").options() == ["--domain=a b", "--fraction=0.01", "--exclude_domain=c"]


@pytest.mark.parametrize(
    ("kind", "selection", "message"),
    [
        ("single", DomainSelection(), r"teacher\.kind is single: each teacher is trained on one domain"),
        ("multi", DomainSelection(), r"teacher\.kind is multi: each teacher is trained on one domain"),
        ("mix", BOOKS, r"domain is 'books', but a teacher of kind mix is trained on all domains"),
        ("single", DomainSelection("books", exclude_domain="books"), r"domain and exclude_domain are both 'books'"),
    ],
)
def test_a_selection_that_does_not_fit_the_teacher_is_refused(
    kind: Any, selection: DomainSelection, message: str, task: Task
) -> None:
    method = Method(TeacherRecipe(kind, epochs=1, learning_rate=1.0), [Stage("stage", [LOGITS], 1, 1.0)])
    with pytest.raises(InputError, match=message):
        plan_teacher(task, method, selection)


def test_a_method_without_teacher_trains_none(task: Task) -> None:
    with pytest.raises(InputError, match=r"teacher\.kind is none: this method trains no teacher"):
        plan_teacher(task, shipped("label_only"), DomainSelection())


@pytest.mark.parametrize(
    ("name", "student", "options", "message"),
    [
        ("vanilla", "s", {"stage_name": "prediciton"}, r"stage 'prediciton': .*\['prediction'\]; did you mean 'predic"),
        ("vanilla", "s", {"logits": "no.tsv"}, r"logits: no file 'no\.tsv'"),
        ("vanilla", "s", {}, r"stage prediction learns from a teacher's logits; name a teacher or a file"),
        ("metakd", "s", {}, r"stage intermediate matches attention_scores, embedding, hidden, transferable, .* not 0"),
        ("minilm", "s", {"teachers": ["a", "b"]}, r"stage intermediate matches .* needs one teacher, not 2"),
        ("vanilla", CUT, {"teachers": ["a", "b"]}, r"student starts from the teacher, but 2 teachers are named"),
        ("label_only", CUT, {}, r"student starts from the teacher, but 0 teachers are named.*of: pretrained"),
    ],
)
def test_a_distillation_without_its_teacher_or_logits_is_refused(
    name: str, student: Student, options: dict[str, Any], message: str, task: Task, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        plan_distillation(replace(task, student=student), shipped(name), BOOKS, tmp_path, **options)


def test_a_table_that_is_needed_must_exist(task: Task, tmp_path: Path) -> None:
    for lacking in ("train", "dev"):
        with pytest.raises(InputError, match=rf"task\.{lacking}: no file 'none\.tsv'"):
            plan_teacher(replace(task, **{lacking: "none.tsv"}), shipped("vanilla"), DomainSelection())
        with pytest.raises(InputError, match=rf"task\.{lacking}: no file 'none\.tsv'"):
            plan_distillation(replace(task, **{lacking: "none.tsv"}), shipped("vanilla"), BOOKS, tmp_path, ["a"])
    # Dev labels are hidden where most training labels are.
    few = DomainSelection("books", 0.5)
    assert (
        "dev" not in plan_distillation(replace(task, dev="none.tsv"), shipped("vanilla"), few, tmp_path, ["a"]).inputs
    )


def test_one_stage_can_run_alone(task: Task, tmp_path: Path) -> None:
    plan = plan_distillation(task, shipped("metakd"), BOOKS, tmp_path, ["a"], stage_name="intermediate")
    assert [stage.name for stage in plan.stages] == ["intermediate"]
    assert plan.settings["stages"] == ["intermediate"]
    assert "dev" not in plan.inputs  # it saves its last epoch


def test_settings_hold_what_the_inputs_content_does_not(task: Task, tmp_path: Path) -> None:
    def settings(name: str = "metakd", selection: DomainSelection = BOOKS, **options: Any) -> dict[str, Any]:
        return plan_distillation(replace(task, **options), shipped(name), selection, tmp_path, ["a"]).settings

    assert settings(student="one") == settings(student="other")  # a folder's content counts
    changes = [
        settings("tinybert"), settings(selection=DomainSelection("films")), settings(epochs_scale=2.0),
        settings(student=StudentFromTeacher(3)), settings(max_length=9), settings(student="one"),
    ]  # fmt: skip
    assert all(changed != settings() for changed in changes)


def test_a_teacher_depends_on_the_epochs_that_it_is_trained_for(task: Task) -> None:
    def settings(scale: float) -> dict[str, Any]:
        return plan_teacher(replace(task, epochs_scale=scale), shipped("metakd"), DomainSelection()).settings

    assert settings(1.0)["teacher"]["epochs"] == 5 and settings(0.4)["teacher"]["epochs"] == 2
    assert settings(0.4) == settings(0.41) != settings(1.0)
    none = TeacherRecipe("none")
    assert scaled_budget(none, task) is none


def test_what_a_teacher_is_trained_by() -> None:
    meta, prototypes = TeacherRecipe("meta", "prototype", epochs=1, learning_rate=1.0), Prototypes(alpha=0.3)
    assert teacher_facts(meta, prototypes)["prototypes"] == {"variant": "paper", "alpha": 0.3}
    # Prototypes that weigh only the student's rows, and the average of several teachers, do not change a teacher.
    mix = TeacherRecipe("mix", epochs=1, learning_rate=1.0)
    assert teacher_facts(mix, prototypes) == teacher_facts(mix, None)
    multi = TeacherRecipe("multi", epochs=1, learning_rate=1.0, average="logits", average_weights=[1.0, 2.0])
    assert teacher_facts(multi, None) == teacher_facts(TeacherRecipe("single", epochs=1, learning_rate=1.0), None)


def test_differences_name_place_and_both_values() -> None:
    wanted = {"teacher": {"kind": "meta", "epochs": 5}, "prototypes": {"alpha": 0.5}}
    trained = {"teacher": {"kind": "mix", "epochs": 5}, "extra": 1}
    assert differences(wanted, wanted) == []
    assert differences(trained, wanted) == [
        "teacher.kind is mix, not meta", "prototypes.alpha is None, not 0.5", "extra is 1, not None",
    ]  # fmt: skip


def teacher_of(name: str, task: Task, run: RunFolder = RUN) -> Path:
    (folder,) = run.teachers_of(task, shipped(name), DOMAINS, "books")
    return folder


def test_methods_with_one_recipe_share_a_teacher(task: Task) -> None:
    plain = {teacher_of(name, task) for name in ("vanilla", "tinybert", "soft_hard", "patient", "minilm", "hidden_mmd")}
    meta = [teacher_of(name, task) for name in ("metakd", "metakd_easynlp", "metakd_original", "new_domain")]
    assert len(plain) == 1 and teacher_of("recommended", task) == teacher_of("new_domain", task)
    assert len({*plain, *meta}) == 5
    # Other hidden labels or another number of epochs make another teacher.
    hidden = RunFolder(Path("run"), Path("run/method"), DomainSelection("books", exclude_domain="books", fraction=0.5))
    assert {teacher_of("vanilla", task, hidden), teacher_of("vanilla", replace(task, epochs_scale=2.0))}.isdisjoint(
        plain
    )
    assert teacher_of("vanilla", task).parent == Path("run/teachers")


def test_single_and_multi_methods_share_the_teachers_of_the_domains(task: Task) -> None:
    multi = shipped("multi_teacher")
    single = replace(multi, teacher=replace(multi.teacher, kind="single"))
    teachers = RUN.teachers(task, multi, DOMAINS)
    assert [selection for _, selection in teachers] == [DomainSelection(name) for name in DOMAINS]
    assert RUN.teachers(task, single, DOMAINS) == teachers
    folders = [folder for folder, _ in teachers]
    assert len(set(folders)) == 3 and [folder.name.split("-")[-1] for folder in folders] == DOMAINS
    assert RUN.teachers_of(task, multi, DOMAINS, "films") == folders
    assert RUN.teachers_of(task, single, DOMAINS, "films") == folders[1:2]


def test_hidden_labels_concern_the_teacher_of_their_domain(task: Task) -> None:
    multi = shipped("multi_teacher")
    few = RunFolder(Path("run"), Path("run/method"), DomainSelection("films", 0.1))
    assert few.teachers(task, multi, DOMAINS)[1][1] == DomainSelection("films", 0.1)
    assert [few.teachers(task, multi, DOMAINS)[i] for i in (0, 2)] == [
        RUN.teachers(task, multi, DOMAINS)[i] for i in (0, 2)
    ]
    without = RunFolder(Path("run"), Path("run/method"), DomainSelection(exclude_domain="films"))
    assert [s.domain for _, s in without.teachers(task, multi, DOMAINS)] == ["books", "phones"]


def test_a_multi_task_teacher_has_a_folder_per_domain(task: Task) -> None:
    method = replace(shipped("vanilla"), teacher=TeacherRecipe("mtl", epochs=1, learning_rate=1.0))
    ((folder, selection),) = RUN.teachers(task, method, DOMAINS)
    assert selection == DomainSelection()
    assert RUN.teachers_of(task, method, DOMAINS, "books") == [folder / "books"]
    assert RUN.teachers_of(task, method, DOMAINS, "../x")[0].parent == folder  # a domain's name is no path


def test_the_student_of_a_domain_may_be_that_of_all(task: Task) -> None:
    each, one = shipped("vanilla"), replace(shipped("vanilla"), one_student=True)
    of_books = (Path("run/method/students/books"), DomainSelection("books"))
    assert RUN.student(task, each, "books") == of_books
    of_all = (Path("run/method/student"), DomainSelection())
    assert RUN.student(task, one, "books") == RUN.student(task, one, "films") == of_all
    # Nor where each domain has classes of its own.
    assert RUN.student(replace(task, own_labels=True), one, "books") == of_books
    # Where labels of the domain are hidden from the student or its teacher, the student is its alone.
    hidden = RunFolder(Path("run"), Path("run/method"), DomainSelection("books", 0.5))
    assert hidden.student(task, one, "books", 0.5) == (of_books[0], DomainSelection("books", 0.5))
    assert (
        RunFolder(Path("run"), Path("run/method"), DomainSelection(exclude_domain="books")).student(task, one, "books")
        == of_books
    )
    with pytest.raises(InputError, match=r"one_student: teacher\.kind single trains a teacher for each domain"):
        replace(one, teacher=replace(one.teacher, kind="single"))


def test_settings_that_are_off_are_not_part_of_what_a_student_depends_on(task: Task) -> None:
    """So results from before there were these settings stay valid."""
    found = []
    for most, soup in ((None, 1), (0, 2)):
        stages = [replace(stage, most_unlabelled=most, soup=soup) for stage in shipped("recommended").stages]
        plan = plan_distillation(task, replace(shipped("recommended"), stages=stages), BOOKS, Path("l"), ["t"])
        found += plan.settings["method"]["stages"]
    assert found[1] == {**found[0], "most_unlabelled": 0, "soup": 2}
    assert not found[0].keys() & {"most_unlabelled", "soup"}
    recipe = plan_teacher(task, shipped("recommended"), DomainSelection()).settings["teacher"]
    assert "soup" not in recipe and "soup" not in plan.settings["method"]["teacher"]


def test_a_method_without_teacher_has_no_teacher_folder(task: Task) -> None:
    assert RUN.teachers(task, shipped("label_only"), DOMAINS) == []
    assert RUN.teachers_of(task, shipped("label_only"), DOMAINS, "books") == []


def test_weighted_tables_differ_by_prototypes_and_hidden_labels() -> None:
    hidden = RunFolder(Path("run"), Path("run/method"), DomainSelection("books", 0.5))
    other = RunFolder(Path("run"), Path("run/method"), DomainSelection("books", 0.1))
    paper, easynlp = Prototypes("paper", 0.3), Prototypes("easynlp")
    assert RUN.weighted_table(paper) == Path("run/weights/paper-0.3.tsv")
    assert RUN.weighted_table(easynlp) == Path("run/weights/easynlp.tsv")
    assert len({run.weighted_table(p) for run in (RUN, hidden, other) for p in (paper, easynlp)}) == 6
    assert RUN.evaluation("books") == Path("run/method/students/books.json")
    assert RUN.embeddings == Path("run/embeddings")
