"""Every kind of student goes through the real scripts; what cannot be built is refused."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from metakd.config import BiLSTMStudent, FreshStudent, StaticStudent, Student, StudentFromTeacher, TextCNNStudent
from metakd.errors import InputError
from tests.conftest import Tables, distill, evaluate, make_task, read_method, script

STUDENTS: dict[str, Student] = {
    "text_cnn": TextCNNStudent("text_cnn", filters=6),
    "bilstm": BiLSTMStudent("bilstm", lstm_size=5, embedding_size=7),
    "static": StaticStudent("static", embedding_size=8),
    "narrow": FreshStudent(12, 2, heads=3),
    "first": StudentFromTeacher(3, "first"),
    "listed": StudentFromTeacher([1, 4], of="pretrained"),
}
STARTS = {
    "text_cnn": "random weights, the pretrained encoder's word embeddings",
    "bilstm": "random weights",
    "static": "random weights, principal components of the vectors that the trained teacher gives to single tokens",
    "narrow": "random weights",
    "first": "layers 1, 2, 3 of the trained teacher",
    "listed": "layers 1, 4 of the pretrained encoder",
}


def test_students_of_every_kind(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path, caplog: pytest.LogCaptureFixture
) -> None:
    method = read_method("soft_hard", prediction=3)
    method.stages[0].learning_rate = 3e-3
    for name, spec in STUDENTS.items():
        task = make_task(tables, pretrained, spec)
        student = distill(tmp_path / name, task, method, teacher=str(meta_teacher), domain="films")
        model = AutoModelForSequenceClassification.from_pretrained(student)
        assert model.config.id2label == {0: "negative", 1: "positive"}
        scores = evaluate(tmp_path / f"{name}.json", student, tables["test"])["model"]
        assert scores["parameters"] == sum(parameter.numel() for parameter in model.parameters())
        assert scores["starts_from"] == STARTS[name]
        predictions = tmp_path / f"{name}.csv"
        script("experiments/predict.py").main(model=student, table=tables["test"], out=predictions)
        assert len(predictions.read_text().splitlines()) == 1 + 24
    assert "starts from random weights" in caplog.text
    embeddings = load_file(pretrained / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert load_file(tmp_path / "text_cnn/model.safetensors")["words.weight"].shape == embeddings.shape


def test_students_that_cannot_be_built(tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path) -> None:
    refused = [
        (STUDENTS["text_cnn"], "tinybert", r"metakd_text_cnn.*no embedding.* hidden, transferable, logits, label"),
        (StaticStudent("static", embedding_size=17), "vanilla", "embedding_size is 17, but 16 components are all"),
        (StudentFromTeacher([4, 1]), "vanilla", "not a rising list of layers from 1 to 4"),
        (StudentFromTeacher(5, "last"), "vanilla", "not between 1 and the teacher's 4"),
        (FreshStudent(10, 2, heads=3), "vanilla", r"3 heads do not divide hidden_size 10.*one of \[1, 2, 5, 10\]"),
    ]
    for spec, method, message in refused:
        task = make_task(tables, pretrained, spec)
        with pytest.raises(InputError, match=message):
            distill(tmp_path / "x", task, read_method(method), teacher=str(meta_teacher), domain="films")
    assert not (tmp_path / "x").exists()


def test_relations_of_any_head_count(tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path) -> None:
    task = make_task(tables, pretrained, FreshStudent(12, 2, heads=3))
    options = {"teacher": str(meta_teacher), "domain": "books"}
    student = distill(tmp_path / "s", task, read_method("minilm"), **options)
    assert not (student / "projections-intermediate.safetensors").exists()  # relations have no width
    method = read_method("minilm")
    method.stages[0].terms[0].heads = 8
    message = r"8 relation heads do not divide the widths 16 .* 12 .*set heads: to one of \[1, 2, 4\]"
    with pytest.raises(InputError, match=message):
        distill(tmp_path / "x", task, method, **options)
