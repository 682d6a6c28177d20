"""Every method file, kind of teacher, kind of student and problem type goes through the real scripts."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from metakd.config import BiLSTMStudent, FreshStudent, MetaTeacher, Student, StudentFromTeacher, TextCNNStudent
from metakd.data.labels import Labels
from metakd.data.tables import read_rows, write_rows
from metakd.errors import InputError
from metakd.methods import Method
from metakd.training.distillation import prepare
from metakd.training.runtime import start
from metakd.training.sources import Target
from tests.conftest import ROOT, make_rows, read_yaml, script
from tests.pipeline.test_families import Tables, task, train_teacher

METHODS = sorted(path.stem for path in (ROOT / "experiments/methods").glob("*.yaml"))
PRETRAINED = StudentFromTeacher(2, of="pretrained")


def method(name: str) -> Method:
    found = read_yaml(ROOT / f"experiments/methods/{name}.yaml", Method)
    for stage in found.stages:
        stage.epochs = 2
    return found


def distill(tmp_path: Path, name: str, **arguments: object) -> Path:
    script("experiments/distill.py").main(out=tmp_path / name, **arguments)
    return tmp_path / name


def history(folder: Path) -> dict:
    return json.loads((folder / "history.json").read_text())


@pytest.fixture
def taught(tmp_path: Path, tables: Tables, encoder: Callable[..., Path]) -> tuple[Tables, Path, Path]:
    """Tables, pretrained encoder, and a meta-teacher."""
    folder = encoder()
    return tables, folder, train_teacher(tmp_path, task(tables, folder, PRETRAINED))


def test_every_method_makes_a_student(tmp_path: Path, taught: tuple[Tables, Path, Path]) -> None:
    tables, folder, teacher = taught
    starts = set()
    for name in METHODS:
        made = task(tables, folder, PRETRAINED, epochs={}, learning_rates={}, unlabelled=str(tables["test"]))
        teachers: object = {"label_only": None, "general": None, "multi_teacher": [str(teacher)] * 2}.get(
            name, str(teacher)
        )
        student = distill(tmp_path, name, task=made, method=method(name), teacher=teachers, domain="books")
        losses = history(student)
        assert all(np.isfinite(stage["losses"]).all() for stage in losses.values()), name
        assert {stage.name for stage in method(name).stages} == set(losses)
        kind = AutoConfig.from_pretrained(student).architectures[0]
        assert kind == ("BertModel" if name == "general" else "BertForSequenceClassification")
        starts.add(losses[next(iter(losses))]["losses"][0])
    assert len(starts) > len(METHODS) - 3  # one teacher twice is vanilla, and first stages may be shared


def test_one_teacher_twice_is_vanilla(tmp_path: Path, taught: tuple[Tables, Path, Path]) -> None:
    tables, folder, teacher = taught
    made = task(tables, folder, PRETRAINED)
    one = distill(tmp_path, "one", task=made, method=method("vanilla"), teacher=str(teacher), domain="films")
    two = distill(
        tmp_path, "two", task=made, method=method("multi_teacher"), teacher=[str(teacher)] * 2, domain="films"
    )
    assert history(two)["prediction"]["losses"] == pytest.approx(history(one)["prediction"]["losses"], rel=1e-4)
    with pytest.raises(InputError, match="teacher_weights has 3 numbers for 2 teachers"):
        weighted = replace(method("multi_teacher"), teacher_weights=[1.0, 1.0, 2.0])
        distill(tmp_path, "x", task=made, method=weighted, teacher=[str(teacher)] * 2, domain="films")


def test_metakd_without_its_own_is_tinybert(tmp_path: Path, taught: tuple[Tables, Path, Path]) -> None:
    tables, folder, teacher = taught
    made, bare = task(tables, folder, PRETRAINED), method("metakd")
    for stage in bare.stages:
        stage.row_weight = "uniform"
        stage.terms = [replace(term, temperature=1.0) for term in stage.terms if term.feature != "transferable"]
    found = [
        history(distill(tmp_path, name, task=made, method=which, teacher=str(teacher), domain="books"))
        for name, which in (("bare", bare), ("tiny", method("tinybert")))
    ]
    for stage in ("intermediate", "prediction"):
        assert found[0][stage]["losses"] == found[1][stage]["losses"]


def test_a_general_encoder_starts_students(tmp_path: Path, taught: tuple[Tables, Path, Path]) -> None:
    tables, folder, _ = taught
    raw = tmp_path / "text.jsonl"  # any text: neither labels nor domains
    raw.write_text(
        "".join(json.dumps({"guid": i, "text_a": row["text_a"]}) + "\n" for i, row in enumerate(make_rows(9)))
    )
    made = task(tables, folder, PRETRAINED, unlabelled=str(raw))
    encoder = distill(tmp_path, "general", task=made, method=method("general"))
    assert len(history(encoder)["general"]["losses"]) == 2 * 2  # 9 rows in batches of 8
    other = task(tables, folder, str(encoder), labels=["negative", "positive"])
    student = distill(tmp_path, "student", task=other, method=method("label_only"), domain="books")
    start, end = load_file(encoder / "model.safetensors"), load_file(student / "model.safetensors")
    assert {f"bert.{name}" for name in start} <= set(end)
    with pytest.raises(InputError, match=r"task\.unlabelled: no table is named"):
        distill(tmp_path, "none", task=task(tables, folder, PRETRAINED), method=method("general"))


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_a_file_of_logits_stands_for_the_teacher(
    tmp_path: Path, taught: tuple[Tables, Path, Path], suffix: str
) -> None:
    tables, folder, teacher = taught
    out = tmp_path / f"logits.{suffix}"
    script("experiments/predict.py").main(model=teacher, table=tables["train"], out=out, columns="logits,predictions")
    assert not list(tmp_path.glob(".logits*/")) and not (tmp_path / ".logits.lock").exists()
    made = task(tables, folder, PRETRAINED)
    shuffled = task({**tables, "train": tmp_path / "shuffled.tsv"}, folder, PRETRAINED)
    write_rows(tmp_path / "shuffled.tsv", sorted(read_rows(tables["train"]), key=lambda row: row["guid"][::-1]))
    soft = method("vanilla")
    live = distill(tmp_path, "live", task=made, method=soft, teacher=str(teacher), domain="books")
    shipped = distill(tmp_path, "shipped", task=made, method=soft, logits=str(out), domain="books")
    assert history(live)["prediction"]["losses"] == pytest.approx(history(shipped)["prediction"]["losses"], rel=1e-4)
    assert distill(tmp_path, "other", task=shuffled, method=soft, logits=str(out), domain="books").is_dir()
    target, logits = Target(Labels(("negative", "positive")), ["books", "films", "phones"], "books"), []
    for one, teachers, file in ((made, [str(teacher)], None), (shuffled, [], str(out))):
        run = prepare(one, soft, soft.stages, target, teachers, file, tmp_path, start("fp32"))
        values, shown = run.logits["prediction"], run.sources.chosen(soft.stages[0])
        assert values is not None and len(shown) == 16
        logits.append({run.sources.rows.guids[int(row)]: values[row] for row in shown})
    assert list(logits[0]) != list(logits[1]) and logits[0].keys() == logits[1].keys()
    for guid, row in logits[0].items():
        np.testing.assert_allclose(logits[1][guid], row, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"stage intermediate matches .* one teacher is needed; --teacher names 0"):
        distill(tmp_path, "x", task=made, method=method("tinybert"), logits=str(out), domain="books")
    extra = [*read_rows(tables["train"])][:-1]
    write_rows(tmp_path / "shuffled.tsv", extra)
    with pytest.raises(InputError, match=r"1 rows are not in the tables, first '0-47'"):
        distill(tmp_path, "x", task=shuffled, method=soft, logits=str(out), domain="books")


STUDENTS: dict[str, Student] = {
    "text_cnn": TextCNNStudent("text_cnn", filters=6), "bilstm": BiLSTMStudent("bilstm", lstm_size=5, embedding_size=7),
    "narrow": FreshStudent(12, 2, heads=3), "first": StudentFromTeacher(3, "first"),
    "listed": StudentFromTeacher([1, 4], of="pretrained"),
}  # fmt: skip


def test_students_of_every_kind(
    tmp_path: Path, taught: tuple[Tables, Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    tables, folder, teacher = taught
    for name, spec in STUDENTS.items():
        made = task(tables, folder, spec, epochs={"prediction": 3}, learning_rates={"prediction": 3e-3})
        student = distill(tmp_path, name, task=made, method=method("soft_hard"), teacher=str(teacher), domain="films")
        again = AutoModelForSequenceClassification.from_pretrained(student)
        assert again.config.id2label == {0: "negative", 1: "positive"}
        for command, out in (("evaluate", "scores.json"), ("predict", "found.csv")):
            script(f"experiments/{command}.py").main(
                model=student, table=tables["test"], out=tmp_path / f"{name}-{out}"
            )
        scores = json.loads((tmp_path / f"{name}-scores.json").read_text())
        assert scores["model"]["parameters"] == sum(p.numel() for p in again.parameters())
    assert "starts from random weights" in caplog.text
    words = load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert load_file(tmp_path / "text_cnn/model.safetensors")["words.weight"].shape == words.shape

    small = task(tables, folder, STUDENTS["text_cnn"])
    with pytest.raises(
        InputError, match=r"metakd_text_cnn, which has no embedding; .* in hidden, transferable, logits, label"
    ):
        distill(tmp_path, "x", task=small, method=method("tinybert"), teacher=str(teacher), domain="films")
    for spec, part in [
        (StudentFromTeacher([4, 1]), "not a rising list of layers from 1 to 4"),
        (StudentFromTeacher(5, "last"), "between 1 and"),
        (FreshStudent(10, 2, heads=3), r"3 heads do not divide hidden_size 10; set heads: to one of \[1, 2, 5, 10\]"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=part):
            distill(tmp_path, "x", task=task(tables, folder, spec), method=method("vanilla"), teacher=str(teacher))


def test_relations_of_any_head_count(tmp_path: Path, taught: tuple[Tables, Path, Path]) -> None:
    tables, folder, teacher = taught
    made = task(tables, folder, FreshStudent(12, 2, heads=3))
    student = distill(tmp_path, "s", task=made, method=method("minilm"), teacher=str(teacher), domain="books")
    assert not (student / "projections-intermediate.safetensors").exists()  # relations have no width
    odd = method("minilm")
    odd.stages[0].terms[0].heads = 8
    with pytest.raises(
        InputError, match=r"8 relation heads do not divide the widths 16 .* 12 .*set heads: to one of \[1, 2, 4\]"
    ):
        distill(tmp_path, "x", task=made, method=odd, teacher=str(teacher), domain="books")


def test_kinds_of_teachers(tmp_path: Path, tables: Tables, encoder: Callable[..., Path]) -> None:
    folder = encoder()
    made = task(tables, folder, PRETRAINED)
    losses = {}
    for kind in ("mix", "single", "mtl"):
        out = tmp_path / kind
        domain = "books" if kind == "single" else ""
        script("experiments/train_teacher.py").main(task=made, out=out, kind=kind, domain=domain, allow_weak=True)
        losses[kind] = history(out)["losses"]
    assert [len(losses[kind]) for kind in ("mix", "single", "mtl")] == [12 * 6, 12 * 2, 12 * 6]
    assert not (tmp_path / "mix/domain_head.safetensors").exists()
    parts = {name: load_file(tmp_path / "mtl" / name / "model.safetensors") for name in ("books", "films", "phones")}
    for key, value in parts["books"].items():
        same = [bool((value == parts[name][key]).all()) for name in ("films", "phones")]
        assert same == ([False] * 2 if key.startswith("classifier") else [True] * 2), key
    found = distill(
        tmp_path, "s", task=made, method=method("vanilla"), teacher=str(tmp_path / "mtl/films"), domain="films"
    )
    assert (found / "model.safetensors").is_file()
    with pytest.raises(InputError, match=r"--kind single --fraction 1\.0: name the domain"):
        script("experiments/train_teacher.py").main(task=made, out=tmp_path / "x", kind="single")
    with pytest.raises(InputError, match=r"there are models in its folders \['books', 'films', 'phones'\]"):
        distill(tmp_path, "x", task=made, method=method("vanilla"), teacher=str(tmp_path / "mtl"))
    with pytest.raises(InputError, match="--domain books has no use in --kind mix"):
        script("experiments/train_teacher.py").main(task=made, out=tmp_path / "x", kind="mix", domain="books")
    with pytest.raises(InputError, match="did you mean 'films'"):
        script("experiments/train_teacher.py").main(task=made, out=tmp_path / "x", kind="single", domain="film")


def test_zero_shot_and_few_shot(
    tmp_path: Path, tables: Tables, encoder: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    """No label that is hidden reaches teacher, weights or student; weights that know one are refused."""
    caplog.set_level("INFO")
    folder, embeddings, out = encoder(), tmp_path / "embeddings", tmp_path / "weighted.tsv"
    raw = {**tables, "train": tmp_path / "raw.tsv"}
    rows = [{**row, "weight": None} for row in read_rows(tables["train"])]
    write_rows(raw["train"], ({k: v for k, v in row.items() if k != "weight"} for row in rows))
    script("data_prep/extract_embeddings.py").main(model=str(folder), table=raw["train"], out=embeddings, max_length=32)
    prototypes = script("data_prep/prototype_weights.py").main
    train = script("experiments/train_teacher.py").main
    weighted = task({**tables, "train": out}, folder, PRETRAINED)

    prototypes(table=raw["train"], embeddings=embeddings, out=out, exclude_domain="books")
    assert [row["weight"] is None for row in read_rows(out)] == [row["domain"] == "books" for row in rows]
    train(task=weighted, out=tmp_path / "zero", exclude_domain="books", allow_weak=True)
    assert json.loads((tmp_path / "zero/metakd.json").read_text())["domains"] == ["films", "phones"]
    with pytest.raises(InputError, match=r"weighted\.tsv: row 1 has no weight \(16 rows have none\)"):
        train(task=weighted, out=tmp_path / "x")
    shown = {"task": weighted, "teacher": str(tmp_path / "zero"), "domain": "books"}
    few = method("few_labels")
    distill(tmp_path, "s0", method=few, fraction=0.2, **shown)
    assert "shown: 16 rows (labelled, unlabelled), 4 with label" in caplog.text
    with pytest.raises(InputError, match=r"weighted\.tsv has no labelled rows of domain books"):
        distill(tmp_path, "x", method=method("metakd"), fraction=0.0, **shown)
    zero = method("metakd")
    for stage in zero.stages:
        stage.rows = ["unlabelled"]
    distill(tmp_path, "s1", method=zero, fraction=0.0, **shown)
    assert "16 rows without label; the teacher's confidence stands for their prototype score and p(y)" in caplog.text
    for stage in zero.stages:
        stage.rows = ["unlabelled", "other_domains"]
    distill(tmp_path, "s2", method=zero, fraction=0.0, **shown)
    assert "shown: 48 rows (unlabelled, other_domains), 32 with label" in caplog.text

    with pytest.raises(InputError, match="name the domain that it is about"):
        prototypes(table=raw["train"], embeddings=embeddings, out=out, fraction=0.2)
    prototypes(table=raw["train"], embeddings=embeddings, out=out, domain="books", fraction=0.2)
    assert sum(row["weight"] is not None for row in read_rows(out)) == 32 + 4
    train(task=weighted, out=tmp_path / "few", domain="books", fraction=0.2, allow_weak=True)
    assert "the teacher sees 36 labelled rows of 48" in caplog.text
    full = task(tables, folder, PRETRAINED)  # weights of every row
    with pytest.raises(InputError, match="has a weight, but its label may not be seen"):
        train(task=full, out=tmp_path / "x", domain="books", fraction=0.2)
    with pytest.raises(InputError, match="has a weight, but its label may not be seen"):
        distill(
            tmp_path,
            "x",
            task=full,
            method=method("metakd"),
            teacher=str(tmp_path / "few"),
            domain="books",
            fraction=0.2,
        )


@pytest.mark.parametrize("problem", ["multi_label", "regression"])
def test_other_problem_types(problem: str, tmp_path: Path, tables: Tables, encoder: Callable[..., Path]) -> None:
    spell = {
        "multi_label": {"positive": "good|long", "negative": "|"}, "regression": {"positive": "2.5", "negative": "-1"},
    }[problem]  # fmt: skip
    for path in tables.values():
        write_rows(path, [{**row, "label": spell[row["label"]], "weight": 1.0} for row in read_rows(path)])
    budget = {"teacher": 40, "prediction": 2}
    made = task(tables, encoder(), PRETRAINED, problem=problem, epochs=budget, learning_rates={"teacher": 1e-3})
    teacher = train_teacher(tmp_path, made, meta=MetaTeacher(row_weight="uniform"), allow_weak=True)
    fitting = {
        "multi_label": ["vanilla", "soft_hard", "label_only", "logits_mse"],
        "regression": ["label_only", "logits_mse"],
    }
    for name in fitting[problem]:
        teachers = None if name == "label_only" else str(teacher)
        student = distill(tmp_path, name, task=made, method=method(name), teacher=teachers, domain="books")
    scores, table = tmp_path / "scores.json", tmp_path / "found.jsonl"
    script("experiments/evaluate.py").main(model=teacher, teacher=student, table=tables["train"], out=scores)
    found = json.loads(scores.read_text())["model"]
    assert found["micro_f1" if problem == "multi_label" else "spearman"] > 0.6
    script("experiments/predict.py").main(model=teacher, table=tables["dev"], out=table)
    first = json.loads(table.read_text().splitlines()[0])
    assert list(first)[:2] == ["guid", "prediction"] and any(key.startswith("logit.") for key in first)
    assert any(key.startswith("probability.") for key in first) == (problem == "multi_label")
    script("experiments/predict.py").main(
        model=teacher, table=tables["train"], out=tmp_path / "l.tsv", columns="logits"
    )
    distill(tmp_path, "file", task=made, method=method("logits_mse"), logits=str(tmp_path / "l.tsv"), domain="books")
    with pytest.raises(
        InputError, match=f"needs one true class per row, which a {problem} task does not have|it has \\['mse'"
    ):
        distill(tmp_path, "x", task=made, method=method("metakd"), teacher=str(teacher), domain="books")
    if problem == "regression":
        with pytest.raises(
            InputError, match=r"loss 'kl' does not fit feature 'logits' of a regression task; it has \['mse'\]"
        ):
            distill(tmp_path, "x", task=made, method=method("vanilla"), teacher=str(teacher), domain="books")
