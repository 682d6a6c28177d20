"""Teachers of every kind, teachers that the method does not describe, and the prototypes that teachers need."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from metakd.data.tables import read_rows
from metakd.errors import InputError
from metakd.methods.method import Method, Prototypes
from tests.conftest import (
    CUT_FROM_PRETRAINED,
    Tables,
    distill,
    evaluate,
    make_task,
    read_history,
    read_method,
    script,
    train_teacher,
)


def vanilla(kind: str) -> Method:
    """Vanilla KD from a teacher of another kind."""
    method = read_method("vanilla")
    return replace(method, teacher=replace(method.teacher, kind=kind))


def read_notes(folder: Path) -> list[str]:
    """What a reader of a student's results must know."""
    return json.loads((folder / "metakd.json").read_text())["notes"]


def test_kinds_of_teachers(tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    task, losses = make_task(tables, pretrained, CUT_FROM_PRETRAINED), {}
    for kind in ("mix", "single", "mtl"):
        domain = "books" if kind == "single" else ""
        out = train_teacher(tmp_path, task, vanilla(kind), out=tmp_path / kind, domain=domain, allow_weak=True)
        losses[kind] = read_history(out)["losses"]
    assert {kind: len(curve) for kind, curve in losses.items()} == {"mix": 12 * 6, "single": 12 * 2, "mtl": 12 * 6}
    assert not (tmp_path / "mix/domain_head.safetensors").exists()
    models = {name: load_file(tmp_path / "mtl" / name / "model.safetensors") for name in ("books", "films", "phones")}
    for key, value in models["books"].items():
        same = [bool((value == models[name][key]).all()) for name in ("films", "phones")]
        assert same == ([False] * 2 if key.startswith("classifier") else [True] * 2), key
    student = distill(tmp_path / "s", task, vanilla("mtl"), teacher=str(tmp_path / "mtl/films"), domain="films")
    assert read_notes(student) == []

    with pytest.raises(InputError, match=r"its folders \['books', 'films', 'phones'\] hold models"):
        distill(tmp_path / "x", task, vanilla("mtl"), teacher=str(tmp_path / "mtl"))
    for kind, domain, message in (
        ("single", "", "each teacher is trained on one domain; name the domain"),
        ("single", "film", "did you mean 'films'"),
        ("mix", "books", "domain is 'books', but a teacher of kind mix is trained on all domains"),
        ("none", "", "this method trains no teacher"),
    ):
        method = read_method("label_only") if kind == "none" else vanilla(kind)
        with pytest.raises(InputError, match=message):
            train_teacher(tmp_path, task, method, out=tmp_path / "x", domain=domain)


def test_a_teacher_that_the_method_does_not_describe_is_noted(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task(tables, pretrained, CUT_FROM_PRETRAINED)
    mix = train_teacher(tmp_path, task, vanilla("mix"), out=tmp_path / "mix")
    books = train_teacher(tmp_path, task, vanilla("single"), out=tmp_path / "b", domain="books", allow_weak=True)
    foreign = tmp_path / "foreign"  # a classifier of another project has no metakd.json
    foreign.mkdir()
    for file in mix.iterdir():
        if file.name not in ("metakd.json", "manifest.json"):
            (foreign / file.name).write_bytes(file.read_bytes())
    logits = tmp_path / "logits.tsv"
    script("experiments/predict.py").main(model=meta_teacher, table=tables["train"], out=logits, columns="logits")

    def notes(name: str, method: Method, domain: str = "books", **options: object) -> list[str]:
        """The notes in metakd.json; log and evaluation must have the same."""
        caplog.clear()
        student = distill(tmp_path / name, task, method, domain=domain, **options)
        texts = read_notes(student)
        assert [f"NOTE: {text}" in caplog.text for text in texts] == [True] * len(texts)
        assert ("NOTE: " in caplog.text.replace("NOTE: the student's dev score", "")) == bool(texts)
        scores = evaluate(tmp_path / f"{name}.json", student, tables["test"], teacher=meta_teacher)
        assert scores["model"]["notes"] == texts
        return texts

    metakd = read_method("metakd")
    assert notes("own", metakd, teacher=str(meta_teacher)) == []
    (note,) = notes("mix_student", metakd, teacher=str(mix))
    assert note.startswith(f"{mix} is not the teacher that the method describes: teacher.kind is mix, not meta; ")
    assert "teacher.domain_loss_weight is 0.0, not 0.1" in note
    assert "prototypes.variant is None, not paper" in note and "epochs" not in note
    (note,) = notes("longer", read_method("metakd", teacher_epochs=11), teacher=str(meta_teacher))
    assert note.endswith("describes: teacher.epochs is 12, not 11")
    (note,) = notes("unknown", metakd, teacher=str(foreign))
    assert note.endswith("describes: how it was trained is not known")
    (note,) = notes("of_books", vanilla("single"), domain="films", teacher=str(books))
    assert note == f"{books} was trained on books, not on films"
    (note,) = notes("file", read_method("vanilla"), logits=str(logits))
    assert note == f"logits come from {logits}, not from the teacher that the method describes"
    (note,) = notes("two", vanilla("mix"), teacher=[str(mix), str(mix)])
    assert note == "2 teachers are averaged, the method has one (teacher.kind)"


def test_prototypes_are_those_of_the_method(tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    task, embeddings = make_task(tables, pretrained, CUT_FROM_PRETRAINED), tmp_path / "embeddings"
    method, scores = read_method("metakd"), {}
    script("data_prep/extract_embeddings.py").main(task=task, method=method, out=embeddings)
    variants = {
        "paper": Prototypes("paper", 0.5),
        "own": Prototypes("paper", 1.0),
        "others": Prototypes("paper", 0.0),
        "easynlp": Prototypes("easynlp"),
    }
    for name, prototypes in variants.items():
        out = tmp_path / f"{name}.tsv"
        script("data_prep/prototype_weights.py").main(
            task=task, method=replace(method, prototypes=prototypes), embeddings=embeddings, out=out
        )
        scores[name] = [row["weight"] for row in read_rows(out)]
    # a * own + (1 - a) * others, where no score below 0 was cut off.
    assert min(min(values) for values in scores.values()) > 0
    halves = [(own + others) / 2 for own, others in zip(scores["own"], scores["others"], strict=True)]
    assert scores["paper"] == pytest.approx(halves, rel=1e-5)
    assert scores["easynlp"] != pytest.approx(scores["paper"], rel=1e-3)
    for path in ("data_prep/extract_embeddings.py", "data_prep/prototype_weights.py"):
        options = {} if "extract" in path else {"embeddings": embeddings}
        with pytest.raises(InputError, match="the method file has no prototypes"):
            script(path).main(task=task, method=read_method("vanilla"), out=tmp_path / "x", **options)
