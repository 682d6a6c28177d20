"""Every method file goes through the real scripts with its own teacher; methods that must agree, agree."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from transformers import AutoConfig

from metakd.config import Task
from metakd.data.labels import Labels
from metakd.data.tables import read_rows, write_rows
from metakd.errors import InputError
from metakd.methods.method import Method
from metakd.training.plan import DomainSelection, RunFolder, plan_distillation
from metakd.training.prepared import prepare
from metakd.training.runtime import start
from tests.conftest import (
    CUT_FROM_PRETRAINED,
    ROOT,
    Tables,
    distill,
    evaluate,
    make_rows,
    make_task,
    read_history,
    read_method,
    script,
    train_teacher,
)

METHODS = sorted(path.stem for path in (ROOT / "experiments/methods").glob("*.yaml"))
DOMAINS = ["books", "films", "phones"]


def train_teachers(tmp_path: Path, task: Task, method: Method, domain: str) -> list[str]:
    """Train the teachers that a method describes, unless another method has, and return a domain's."""
    run = RunFolder(tmp_path, tmp_path)
    for folder, selection in run.teachers(task, method, DOMAINS):
        if not folder.exists():
            train_teacher(tmp_path, task, method, out=folder, domain=selection.domain, allow_weak=True)
    return [str(folder) for folder in run.teachers_of(task, method, DOMAINS, domain)]


def test_every_method_makes_a_student(tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    task = make_task(tables, pretrained, CUT_FROM_PRETRAINED, unlabelled=str(tables["test"]))
    first_losses = {}
    for name in METHODS:
        method = read_method(name)
        teachers = train_teachers(tmp_path, task, method, "books")
        student = distill(tmp_path / name, task, method, teacher=teachers, domain="books")
        history = read_history(student)
        assert list(history) == [stage.name for stage in method.stages]
        for stage in method.stages:
            assert np.isfinite(history[stage.name]["losses"]).all(), name
            assert len(history[stage.name]["epochs"]) == stage.epochs
        kind = AutoConfig.from_pretrained(student).architectures[0]
        assert kind == ("BertModel" if name == "general" else "BertForSequenceClassification")
        assert json.loads((student / "metakd.json").read_text())["notes"] == [], name
        first_losses[name] = history[method.stages[0].name]["losses"][0]
    trained = sorted(file.parent.name.partition("-")[0] for file in tmp_path.glob("teachers/*/model.safetensors"))
    assert trained == ["meta", "meta", "meta", "mix", "single", "single", "single"]
    assert first_losses.pop("few_labels_only") == first_losses["label_only"]  # these two differ in budgets only
    assert len(set(first_losses.values())) == len(METHODS) - 1


def test_one_teacher_twice_is_vanilla(tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path) -> None:
    task, multi, twice = (
        make_task(tables, pretrained, CUT_FROM_PRETRAINED),
        read_method("multi_teacher"),
        2 * [str(meta_teacher)],
    )
    one = distill(tmp_path / "one", task, read_method("vanilla"), teacher=str(meta_teacher), domain="films")
    two = distill(tmp_path / "two", task, multi, teacher=twice, domain="films")
    losses = read_history(one)["prediction"]["losses"]
    assert read_history(two)["prediction"]["losses"] == pytest.approx(losses, rel=1e-4)
    multi.teacher = replace(multi.teacher, average_weights=[1.0, 1.0, 2.0])
    with pytest.raises(InputError, match="average_weights has 3 numbers for 2 teachers"):
        distill(tmp_path / "x", task, multi, teacher=twice, domain="films")


def test_metakd_without_weights_and_transferable_term_is_tinybert(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path
) -> None:
    task, reduced = make_task(tables, pretrained, CUT_FROM_PRETRAINED), read_method("metakd")
    for stage in reduced.stages:
        stage.row_weight = "uniform"
        stage.terms = [replace(term, temperature=1.0) for term in stage.terms if term.feature != "transferable"]
    reduced.prototypes = None
    options = {"teacher": str(meta_teacher), "domain": "books"}
    metakd = read_history(distill(tmp_path / "metakd", task, reduced, **options))
    tinybert = read_history(distill(tmp_path / "tinybert", task, read_method("tinybert"), **options))
    for stage in ("intermediate", "prediction"):
        assert metakd[stage]["losses"] == tinybert[stage]["losses"]


def test_a_general_encoder_starts_students(tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    text = tmp_path / "text.jsonl"  # neither labels nor domains
    lines = [json.dumps({"guid": i, "text_a": row["text_a"]}) for i, row in enumerate(make_rows(9))]
    text.write_text("\n".join(lines) + "\n")
    task = make_task(tables, pretrained, CUT_FROM_PRETRAINED, unlabelled=str(text))
    encoder = distill(tmp_path / "general", task, read_method("general"))
    assert len(read_history(encoder)["general"]["losses"]) == 2 * 2  # 9 rows in batches of 8
    task = make_task(tables, pretrained, str(encoder), labels=["negative", "positive"])
    student = distill(tmp_path / "student", task, read_method("label_only"), domain="books")
    at_start, at_end = load_file(encoder / "model.safetensors"), load_file(student / "model.safetensors")
    assert {f"bert.{name}" for name in at_start} <= set(at_end)
    task = make_task(tables, pretrained, CUT_FROM_PRETRAINED)
    with pytest.raises(InputError, match=r"task\.unlabelled: no table is named"):
        distill(tmp_path / "none", task, read_method("general"))


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_a_file_of_logits_replaces_the_teacher(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path, suffix: str
) -> None:
    file, teacher = tmp_path / f"logits.{suffix}", str(meta_teacher)
    script("experiments/predict.py").main(
        model=meta_teacher, table=tables["train"], out=file, columns="logits,predictions"
    )
    assert not list(tmp_path.glob(".logits*/")) and not (tmp_path / ".logits.lock").exists()
    vanilla, reordered_table = read_method("vanilla"), tmp_path / "reordered.tsv"
    write_rows(reordered_table, sorted(read_rows(tables["train"]), key=lambda row: row["guid"][::-1]))
    task = make_task(tables, pretrained, CUT_FROM_PRETRAINED)
    reordered = make_task({**tables, "train": reordered_table}, pretrained, CUT_FROM_PRETRAINED)
    from_teacher = distill(tmp_path / "live", task, vanilla, teacher=teacher, domain="books")
    from_file = distill(tmp_path / "file", task, vanilla, logits=str(file), domain="books")
    losses = read_history(from_teacher)["prediction"]["losses"]
    assert read_history(from_file)["prediction"]["losses"] == pytest.approx(losses, rel=1e-4)
    assert distill(tmp_path / "other", reordered, vanilla, logits=str(file), domain="books").is_dir()

    logits_by_guid = []
    for one, teachers, logits in ((task, [teacher], None), (reordered, [], str(file))):
        plan = plan_distillation(one, vanilla, DomainSelection("books"), tmp_path, teachers, logits)
        stage = prepare(plan, Labels(("negative", "positive")), DOMAINS, start("fp32")).stages[0]
        assert stage.logits is not None and len(stage.rows) == 16
        logits_by_guid.append(dict(zip(stage.rows.guids, stage.logits, strict=True)))
    by_teacher, by_file = logits_by_guid
    assert list(by_teacher) != list(by_file) and by_teacher.keys() == by_file.keys()
    for guid, values in by_teacher.items():
        np.testing.assert_allclose(by_file[guid], values, rtol=1e-4, atol=1e-5)

    with pytest.raises(InputError, match=r"stage intermediate matches .* needs one teacher, not 0"):
        distill(tmp_path / "x", task, read_method("tinybert"), logits=str(file), domain="books")
    write_rows(reordered_table, list(read_rows(tables["train"]))[:-1])
    with pytest.raises(InputError, match=r"1 rows are not in the tables, first '0-47'"):
        distill(tmp_path / "x", reordered, vanilla, logits=str(file), domain="books")


SPELLINGS = {
    "multi_label": {"positive": "good|long", "negative": "|"},
    "regression": {"positive": "2.5", "negative": "-1"},
}
FITTING = {
    "multi_label": ["vanilla", "soft_hard", "label_only", "logits_mse", "pseudo_labels"],
    "regression": ["label_only", "logits_mse"],
}


@pytest.mark.parametrize("problem", SPELLINGS)
def test_other_problem_types(problem: str, tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    for path in tables.values():
        write_rows(path, [{**row, "label": SPELLINGS[problem][row["label"]]} for row in read_rows(path)])
    task = make_task(tables, pretrained, CUT_FROM_PRETRAINED, problem=problem)
    mix = read_method("vanilla", teacher_epochs=40)
    mix.teacher.learning_rate = 1e-3
    teacher = train_teacher(tmp_path, task, mix, allow_weak=True)
    for name in FITTING[problem]:
        teachers = None if name == "label_only" else str(teacher)
        student = distill(tmp_path / name, task, read_method(name), teacher=teachers, domain="books")
    scores = evaluate(tmp_path / "scores.json", teacher, tables["train"], teacher=student)["model"]
    assert scores["micro_f1" if problem == "multi_label" else "spearman"] > 0.6

    predict, predictions, logits = script("experiments/predict.py").main, tmp_path / "p.jsonl", tmp_path / "l.tsv"
    predict(model=teacher, table=tables["dev"], out=predictions)
    columns = list(json.loads(predictions.read_text().splitlines()[0]))
    assert columns[:2] == ["guid", "prediction"] and any(name.startswith("logit.") for name in columns)
    assert any(name.startswith("probability.") for name in columns) == (problem == "multi_label")
    predict(model=teacher, table=tables["train"], out=logits, columns="logits")
    assert distill(tmp_path / "f", task, read_method("logits_mse"), logits=str(logits), domain="books").is_dir()

    with pytest.raises(InputError, match=f"needs one true class per row, which a {problem} task does not have"):
        distill(tmp_path / "x", task, read_method("metakd"), teacher=str(teacher), domain="books")
    if problem == "regression":
        with pytest.raises(InputError, match=r"'kl' does not fit feature 'logits' of a regression task.*\['mse'\]"):
            distill(tmp_path / "x", task, read_method("vanilla"), teacher=str(teacher), domain="books")
