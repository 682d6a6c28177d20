"""What a student is shown and scored on: rows of both tables, dev scores of student and teacher."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from metakd.config import StudentFromTeacher
from metakd.data.tables import write_rows
from metakd.methods.method import Method
from metakd.methods.stage import Stage, Term
from metakd.training.plan import DomainSelection, plan_distillation
from metakd.training.prepared import prepare
from metakd.training.runtime import start
from metakd.training.transfer_rows import load_transfer_rows
from tests.conftest import (
    CUT,
    CUT_FROM_PRETRAINED,
    DOMAINS,
    LABELS,
    Tables,
    distill,
    evaluate,
    make_random_teacher,
    make_rows,
    make_task,
    read_history,
    read_method,
    run_stages,
)


def logits_on(rows: list[str]) -> Method:
    """Plain distillation on these rows."""
    method = read_method("vanilla")
    method.stages[0].rows = rows
    return method


def test_unlabelled_rows_of_the_domain_are_told_from_other_text(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    domains = ["books"] * 4 + ["films"] * 3 + ["cooking"] * 2 + [""]
    rows = [{**row, "label": "", "domain": domain} for row, domain in zip(make_rows(10, seed=9), domains, strict=True)]
    write_rows(tmp_path / "more.tsv", rows)
    task = make_task(tables, pretrained, CUT_FROM_PRETRAINED, unlabelled=str(tmp_path / "more.tsv"))
    expected = {
        ("labelled", "unlabelled"): 16 + 4,
        ("unlabelled",): 4,
        ("extra",): 3 + 2 + 1,
        ("labelled", "other_domains"): 48,
    }
    for kinds, count in expected.items():
        caplog.clear()
        out = tmp_path / "-".join(kinds)
        distill(out, task, logits_on([*kinds]), teacher=str(meta_teacher), domain="books")
        assert f"rows: {count} ({', '.join(kinds)})" in caplog.text
        assert ("more.tsv: 3 rows have no domain of the task" in caplog.text) == ("unlabelled" in kinds)
    caplog.clear()  # a student for all domains
    distill(tmp_path / "all", task, logits_on(["labelled", "unlabelled"]), teacher=str(meta_teacher))
    assert "rows: 55 (labelled, unlabelled), 48 with label" in caplog.text


def test_at_most_so_many_unlabelled_rows_are_shown_and_more_contain_fewer(
    tmp_path: Path, tables: Tables, pretrained: Path
) -> None:
    rows = [{**row, "label": ""} for row in make_rows(9, seed=9, domains=DOMAINS)]
    write_rows(tmp_path / "more.tsv", rows)
    task = make_task(tables, pretrained, CUT_FROM_PRETRAINED, unlabelled=str(tmp_path / "more.tsv"))
    shown = {}
    for most in (0, 5, 8, None):
        method = logits_on(["labelled", "unlabelled"])
        method.stages[0].most_unlabelled = most
        plan = plan_distillation(task, method, DomainSelection("books", 0.25), tmp_path, ["teacher"])
        transfer = load_transfer_rows(plan, LABELS, DOMAINS, AutoTokenizer.from_pretrained(pretrained))
        numbers = transfer.of_stage(method.stages[0])
        shown[most] = {transfer.rows.guids[i] for i in numbers if not transfer.rows.labelled[i]}
        assert transfer.rows.labelled[numbers].sum() == 4
    assert [len(guids) for guids in shown.values()] == [0, 5, 8, 12 + 3]
    assert shown[5] < shown[8] < shown[None]


def test_students_that_see_all_rows_are_one(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{**row, "label": ""} for row in make_rows(9, seed=9, domains=DOMAINS)]
    write_rows(tmp_path / "more.tsv", rows)
    task = make_task(tables, pretrained, CUT, unlabelled=str(tmp_path / "more.tsv"))
    method = logits_on(["labelled", "unlabelled", "other_domains", "extra"])
    method.stages[0].select = "last"
    weights = []
    for domain in ("", "books", "films"):
        caplog.clear()
        student = distill(tmp_path / f"s{domain}", task, method, teacher=str(meta_teacher), domain=domain)
        weights.append(student / "model.safetensors")
        assert ("more.tsv has no row of another domain" in caplog.text) == (domain == "")
    assert len({file.read_bytes() for file in weights}) == 1


def test_a_student_far_below_its_teacher_is_a_loud_word(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("metakd.training.distillation.baseline", lambda *_: 0.0)
    monkeypatch.setattr("metakd.training.prepared.score_teachers", lambda *_: 2.0)
    task = make_task(tables, pretrained, CUT_FROM_PRETRAINED)
    distill(tmp_path / "s", task, read_method("vanilla"), teacher=str(meta_teacher), domain="books")
    score = read_history(tmp_path / "s")["prediction"]["best"]["dev"]["score"]
    assert f"dev score {score:.4f} is {100 * (2 - score):.1f} points below its teacher's (2.0000); train" in caplog.text


def test_the_score_of_a_soup_is_kept_beside_those_of_its_runs(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    method = read_method("vanilla")
    method.stages[0].soup = 2
    task = make_task(tables, pretrained, CUT_FROM_PRETRAINED)
    student = distill(tmp_path / "s", task, method, teacher=str(meta_teacher), domain="books")
    scores = read_history(student)["prediction"]["soup"]
    found = evaluate(tmp_path / "e.json", student, tables["dev"], domain="books")
    assert len(scores["runs"]) == 2 and scores["dev"]["score"] == pytest.approx(found["model"]["accuracy"])
    assert f"dev score of the averaged weights: {scores['dev']['score']:.4f}, of the runs: " in caplog.text


def test_the_teachers_dev_score_is_what_evaluation_finds(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path
) -> None:
    task, selection = make_task(tables, pretrained, CUT), DomainSelection("films")
    plan = plan_distillation(task, read_method(), selection, tmp_path / "logits", [str(meta_teacher)])
    found = evaluate(tmp_path / "e.json", meta_teacher, tables["dev"], domain="films")
    assert prepare(plan, LABELS, DOMAINS, start("fp32")).teacher_score == pytest.approx(found["model"]["accuracy"])


def test_with_dropout_a_copy_does_not_match_its_teacher(tmp_path: Path, tables: Tables) -> None:
    teacher = make_random_teacher(tmp_path / "teacher", dropout=0.1)
    task = make_task(tables, teacher, StudentFromTeacher(4))
    losses = {}
    for dropout in (True, False):
        stage = Stage("match", [Term("hidden", "mse")], 1, 1e-9, select="last", dropout=dropout)
        method = replace(read_method("vanilla"), stages=[stage, *read_method("vanilla").stages])
        losses[dropout] = run_stages(tmp_path / str(dropout), task, method, [teacher])["match"][0]
    assert losses[False] < 1e-9 < 1e-3 < losses[True]
