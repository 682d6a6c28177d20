"""Domains with classes of their own: a student knows its domain's alone, its teacher's logits are limited to these."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from metakd.config import Student, Task
from metakd.data.encoding import encode
from metakd.data.labels import Labels
from metakd.data.tables import Row, read_rows, write_rows
from metakd.data.task_names import labels_and_domains
from metakd.errors import InputError
from metakd.export.sessions import load_onnx
from metakd.manifests import read_json
from metakd.methods.method import Method
from metakd.models.classifier import labels_of
from metakd.models.last_layer import keep_outputs
from metakd.models.loading import load_config
from metakd.training.jobs import own_logits
from metakd.training.plan import DomainSelection, plan_distillation
from metakd.training.prepared import prepare
from metakd.training.runtime import start
from tests.conftest import (
    CUT,
    CUT_FROM_PRETRAINED,
    DOMAINS,
    FAMILIES,
    Tables,
    distill,
    evaluate,
    make_task,
    make_tokenizer,
    read_method,
    script,
    tiny_config,
    train_teacher,
)

# In another order than that of "negative", "positive", and with a class that two domains share.
OWN = {
    "books": ("negative", "positive"),
    "films": ("gripping", "dull"),
    "phones": ("broken", "positive"),
}


def own_labels(row: Row) -> Row:
    return {**row, "label": OWN[row["domain"]][row["label"] == "positive"]}


@pytest.fixture
def task(tables: Tables, pretrained: Path) -> Task:
    for path in tables.values():
        write_rows(path, [own_labels(row) for row in list(read_rows(path))])
    return make_task(tables, pretrained, CUT, own_labels=True)


@pytest.fixture
def teacher(tmp_path: Path, task: Task) -> Path:
    return train_teacher(tmp_path, task, read_method("vanilla"), allow_weak=True)


def probabilities_by_transformers(model: Path, rows: list[Row], classes: tuple[str, ...]) -> np.ndarray:
    """Probabilities of these classes alone [n, C], without any code of this project."""
    network = AutoModelForSequenceClassification.from_pretrained(model).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    with torch.no_grad():
        logits = [network(**tokenizer(row["text_a"], return_tensors="pt")).logits[0] for row in rows]
    every = softmax(torch.stack(logits).double().numpy(), axis=1)
    chosen = every[:, [network.config.label2id[name] for name in classes]]
    return chosen / chosen.sum(1, keepdims=True)


def test_the_classes_of_a_domain(task: Task) -> None:
    assert labels_and_domains(task, "films") == (Labels(("dull", "gripping"), domain="films"), DOMAINS)
    assert labels_and_domains(task)[0].names == ("broken", "dull", "gripping", "negative", "positive")
    ordered = replace(task, labels=["positive", "negative", "gripping", "dull", "broken"])
    assert labels_and_domains(ordered, "films")[0].names == ("gripping", "dull")
    assert labels_and_domains(replace(task, own_labels=False), "films")[0].domain == ""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_smaller_head_gives_the_same_logits(family: str) -> None:
    config = tiny_config(family)
    config.id2label, config.label2id = dict(enumerate("abcd")), {name: i for i, name in enumerate("abcd")}
    model = AutoModelForSequenceClassification.from_config(config).eval()
    batch = {"input_ids": torch.tensor([[2, 5, 9, 3], [2, 11, 7, 3]]), "attention_mask": torch.ones(2, 4).long()}
    with torch.no_grad():
        before = model(**batch).logits
        keep_outputs(model, Labels(("d", "b"), domain="x"))
        torch.testing.assert_close(model(**batch).logits, before[:, [3, 1]])
    assert labels_of(model.config).names == ("d", "b")
    with pytest.raises(InputError, match=r"has the labels \['d', 'b'\], the student \['a', 'b'\]"):
        keep_outputs(model, Labels(("a", "b"), domain="x"))
    with pytest.raises(InputError, match="labels are matched by name"):
        keep_outputs(model, Labels(("b",)))  # shared classes must be all there


@pytest.mark.parametrize("start_from", [CUT, CUT_FROM_PRETRAINED])
def test_a_student_knows_its_domains_classes_alone(
    tmp_path: Path, task: Task, teacher: Path, start_from: Student
) -> None:
    assert labels_of(load_config(str(teacher))).names == ("broken", "dull", "gripping", "negative", "positive")
    task = replace(task, student=start_from)
    student = distill(tmp_path / "s", task, learning("soft_hard"), teacher=str(teacher), domain="films")
    assert labels_of(load_config(str(student))).names == ("dull", "gripping")
    result = evaluate(tmp_path / "r.json", student, Path(task.train), teacher=teacher, domain="films", rows=True)
    assert result["model"]["accuracy"] > 0.9
    films = [row for row in read_rows(task.train) if row["domain"] == "films"]
    right = [("dull", "gripping").index(row["label"]) for row in films]
    assert result["rows"]["label"] == right
    own = probabilities_by_transformers(student, films, ("dull", "gripping"))
    np.testing.assert_allclose(result["rows"]["probabilities"], own, atol=2e-3)
    of_teacher = probabilities_by_transformers(teacher, films, ("dull", "gripping"))
    assert result["teacher"]["accuracy"] == pytest.approx((of_teacher.argmax(1) == right).mean())
    assert result["agreement"] == pytest.approx((of_teacher.argmax(1) == own.argmax(1)).mean())
    with pytest.raises(InputError, match="this model knows the classes of domain 'films' alone"):
        evaluate(tmp_path / "x.json", student, Path(task.train), domain="books")
    alone = evaluate(
        tmp_path / "t.json", teacher, Path(task.train), domain="films", rows=True, classes=["gripping", "dull"]
    )
    np.testing.assert_allclose(alone["rows"]["probabilities"], of_teacher[:, ::-1], atol=2e-3)


def test_a_student_is_exported_with_the_rows_of_its_domain(tmp_path: Path, task: Task) -> None:
    task = replace(task, student=CUT_FROM_PRETRAINED)
    student = distill(tmp_path / "s", task, read_method("label_only"), domain="films")
    out, table = tmp_path / "exported", Path(task.dev)
    script("experiments/export.py").main(model=student, table=table, out=out, formats="onnx")
    assert load_onnx(out / "model.onnx").labels == Labels(("dull", "gripping"), domain="films")
    films = [row["domain"] for row in read_rows(table)].count("films")
    assert read_json(out / "export.json")["rows"] == films > 0
    script("experiments/verify_export.py").main(model=out, table=table)


def test_a_student_sees_the_teachers_logits_of_its_classes(tmp_path: Path, task: Task, teacher: Path) -> None:
    """Rows of other domains are shown without their labels, which are no classes of this student."""
    method = learning("soft_hard", rows=["labelled", "other_domains"])
    labels, domains = labels_and_domains(task, "films")
    plan = plan_distillation(task, method, DomainSelection("films"), tmp_path / "logits", [str(teacher)])
    stage = prepare(plan, labels, domains, start("fp32")).stages[0]
    rows = list(read_rows(task.train))
    assert len(stage.rows) == len(rows) and stage.logits is not None and stage.dev is not None
    wanted = probabilities_by_transformers(teacher, rows, ("dull", "gripping"))
    np.testing.assert_allclose(softmax(stage.logits, axis=1), wanted, atol=1e-5)
    assert stage.rows.labelled.tolist() == [row["domain"] == "films" for row in rows]
    assert len(stage.dev) == 8


def test_methods_in_one_folder(tmp_path: Path, task: Task) -> None:
    """Meta-KD with all its weights, and controls, on classes of their own."""
    methods = {name: read_method(name) for name in ("metakd", "recommended")}
    embeddings, weighted = tmp_path / "e", tmp_path / "weighted.tsv"
    script("data_prep/extract_embeddings.py").main(task=task, method=methods["metakd"], out=embeddings)
    script("data_prep/prototype_weights.py").main(
        task=task, method=methods["metakd"], embeddings=embeddings, out=weighted
    )
    for name, method in methods.items():
        on_weighted = replace(task, train=str(weighted))
        teacher = train_teacher(tmp_path, on_weighted, method, out=tmp_path / f"teacher-{name}", allow_weak=True)
        out = distill(tmp_path / name, on_weighted, method, teacher=str(teacher), domain="phones")
        assert labels_of(load_config(str(out))).names == ("broken", "positive")
    script("experiments/control.py").main(task=task, control="tfidf", domain="phones", out=tmp_path / "control.json")


def test_classes_that_nobody_could_learn_are_refused(
    tmp_path: Path, task: Task, tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    check = script("experiments/check_task.py").main
    check(task=task, method=read_method())
    with pytest.raises(InputError, match=r"all labels of domain 'films' are hidden, but no other .*'dull', 'gripping'"):
        check(task=task, exclude_domain="films")
    with pytest.raises(InputError, match=r"'phones' are hidden, but no other domain has the classes \['broken'\]"):
        check(task=task, domain="phones", fraction=0.0)
    check(task=task, domain="phones", fraction=0.2)
    alone = replace(task, student=CUT_FROM_PRETRAINED)  # without a teacher
    check(task=alone, domain="phones", fraction=0.0, method=read_method("label_only"))
    check(task=task, domain="books", exclude_domain="films")
    with pytest.raises(InputError, match=r"own_labels: teacher\.kind multi averages the teachers of all domains"):
        check(task=replace(task, student=CUT_FROM_PRETRAINED), method=read_method("multi_teacher"))
    with pytest.raises(InputError, match=r"own_labels is true, but a regression has no classes"):
        replace(task, problem="regression")
    caplog.clear()
    check(task=replace(task, own_labels=False))
    assert "no class occurs in two domains" not in caplog.text  # "positive" does
    rows = list(read_rows(tables["dev"]))
    write_rows(tables["dev"], [{**row, "label": "positive"} if row["domain"] == "films" else row for row in rows])
    with pytest.raises(InputError, match=r"dev\.tsv: domain 'films' has the classes \['positive'\], of which"):
        check(task=task)
    for path in tables.values():
        rows = list(read_rows(path))
        write_rows(path, [{**row, "label": "dull"} if row["domain"] == "films" else row for row in rows])
    with pytest.raises(InputError, match=r"domain 'films' has the classes \['dull'\], a classifier needs two"):
        check(task=task)


def test_classes_that_look_like_each_domains_own_are_pointed_out(
    task: Task, tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    for path in tables.values():
        write_rows(path, [{**row, "label": f"{row['domain']} {row['label']}"} for row in list(read_rows(path))])
    script("experiments/check_task.py").main(task=replace(task, own_labels=False))
    assert "no class occurs in two domains; if each has its own, set task.own_labels: true" in caplog.text


def test_sets_of_classes(task: Task, tables: Tables) -> None:
    """In a multi-label task a lone | is no class."""
    for path in tables.values():
        rows = [{**row, "label": {"dull": "|", "gripping": "dull|long"}.get(row["label"], row["label"])}
                for row in read_rows(path)]  # fmt: skip
        write_rows(path, rows)
    task = replace(task, problem="multi_label")
    script("experiments/check_task.py").main(task=task)
    assert labels_and_domains(task, "films")[0].names == ("dull", "long")


def test_a_teacher_is_scored_on_each_domains_classes(task: Task) -> None:
    tokenizer, labels = make_tokenizer(), labels_and_domains(task)[0]
    train, dev = (encode(path, tokenizer, 32, labels, DOMAINS) for path in (task.train, task.dev))
    logits = np.random.default_rng(0).normal(size=(len(dev), 5)).astype(np.float32)
    said = [labels.names[number] for number in own_logits(logits, dev, train).argmax(1)]
    for row, name, values in zip(read_rows(task.dev), said, logits, strict=True):
        assert name == max(OWN[row["domain"]], key=lambda one: values[labels.names.index(one)])


def learning(name: str, rows: list[str] | None = None) -> Method:
    """A shipped method that tiny students learn by."""
    method = read_method(name)
    stage = method.stages[-1]
    stage.epochs, stage.learning_rate, stage.select = 60, 3e-3, "last"
    if rows is not None:
        stage.rows = rows  # type: ignore[assignment]
    return method
