"""Exported classifiers give the model's logits for any batch; a file that loses too much is not handed on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from accelerate import Accelerator
from transformers import AutoTokenizer

from metakd.config import BiLSTMStudent, FreshStudent, StaticStudent, Student, StudentFromTeacher, TextCNNStudent
from metakd.data.encoding import EncodedRows
from metakd.data.labels import Labels
from metakd.data.tables import read_rows, write_rows
from metakd.errors import InputError
from metakd.export.quantisation import WAYS, Way
from metakd.export.sessions import load_onnx
from metakd.training.inference import load_trained_classifier, predict_logits
from tests.conftest import Tables, distill, make_rows, make_task, read_method, script

STUDENTS: dict[str, Student] = {
    "cut": StudentFromTeacher(2),
    "narrow": FreshStudent(8, 1, heads=2),
    "text_cnn": TextCNNStudent("text_cnn", filters=4),
    "bilstm": BiLSTMStudent("bilstm", lstm_size=3, layers=2),
    "static": StaticStudent("static", embedding_size=8),
}


@pytest.mark.parametrize("name", STUDENTS)
def test_an_exported_student(name: str, tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path) -> None:
    method = read_method("soft_hard", prediction=3)
    method.stages[0].learning_rate = 3e-3
    task = make_task(tables, pretrained, STUDENTS[name])
    student = distill(tmp_path / "s", task, method, teacher=str(meta_teacher), domain="films")
    out = tmp_path / "exported"
    script("experiments/export.py").main(model=student, table=tables["train"], out=out, max_loss=20.0)
    facts = json.loads((out / "export.json").read_text())["files"]
    assert set(facts) == {"model.onnx", "model-int8.onnx"} and facts["model.onnx"]["agreement"] == 1
    assert facts["model-int8.onnx"]["highest"] <= 20 and facts["model.onnx"]["largest_difference"] < 1e-4
    accelerator = Accelerator(cpu=True)
    classifier = load_trained_classifier(student, None, accelerator, "off")
    expected = predict_logits(classifier.model, classifier.encode_texts(tables["test"]), accelerator)
    exported = load_onnx(out / "model.onnx")
    assert exported.labels == classifier.labels and exported.max_length == classifier.max_length
    rows = exported.encode_texts(tables["test"])
    for batch_size in (1, 5, 64):
        np.testing.assert_allclose(exported.logits(rows, batch_size), expected, atol=1e-4)
    predict = script("experiments/predict.py").main
    for model in (student, out / "model.onnx", out):  # of a folder the smallest file
        predict(model=model, table=tables["test"], out=tmp_path / "p" / f"{model.name}.jsonl", cpu_tuning="off")
    whole, small = (read_jsonl(tmp_path / "p" / f"{name}.jsonl") for name in ("model.onnx", "exported"))
    for row, other in zip(read_jsonl(tmp_path / "p/s.jsonl"), whole, strict=True):
        assert row["guid"] == other["guid"] and row["logit.positive"] == pytest.approx(
            other["logit.positive"], abs=1e-4
        )
    assert whole != small
    with pytest.raises(InputError, match=r"max_length is 999, but .*model-int8\.onnx takes up to"):
        predict(model=out, table=tables["test"], out=tmp_path / "long.tsv", max_length=999)
    # Without anything of ours: a tokenizer and onnxruntime.
    session = onnxruntime.InferenceSession(str(out / "model-int8.onnx"), providers=["CPUExecutionProvider"])
    text = next(iter(read_rows(tables["test"])))["text_a"]
    inputs = AutoTokenizer.from_pretrained(out)([text], return_tensors="np")
    logits = session.run(None, {entry.name: inputs[entry.name] for entry in session.get_inputs()})[0]
    assert logits.shape == (1, 2) and np.abs(logits - expected[0]).max() < 0.5


def read_jsonl(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_file_that_loses_too_much_is_not_handed_on(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = script("experiments/export.py").main

    def broken(source: Path, file: Path, rows: EncodedRows) -> None:
        """A matrix of the last layer is turned over, worse than what an outlier makes of a scale per tensor."""
        model = onnx.load(source)
        head = next(tensor for tensor in reversed(model.graph.initializer) if list(tensor.dims) == [2, 16])
        head.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(head), head.name))
        onnx.save(model, file)

    monkeypatch.setitem(WAYS, "onnx-int8", (Way("one that is broken", broken),))
    with pytest.raises(
        InputError, match=r"(?s)no onnx-int8 file is known to lose at most 0\.5 .*on 48 rows:\n  one that is broken"
    ):
        export(model=meta_teacher, table=tables["train"], out=tmp_path / "e")
    assert not (tmp_path / "e").exists()
    with pytest.raises(InputError, match="'onnx-int4' is not among"):
        export(model=meta_teacher, table=tables["train"], out=tmp_path / "e", formats="onnx-int4")
    export(model=meta_teacher, table=tables["train"], out=tmp_path / "e", formats="onnx")
    assert load_onnx(tmp_path / "e/model.onnx").labels == Labels(("negative", "positive"))
    (tmp_path / "e/model.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"no ONNX model could be loaded from '.*model\.onnx'; copy it again"):
        load_onnx(tmp_path / "e/model.onnx")


def test_a_trimmed_export_is_verified_elsewhere(
    tmp_path: Path, tables: Tables, meta_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export, verify = script("experiments/export.py").main, script("experiments/verify_export.py").main
    out = tmp_path / "e"
    formats = "onnx,onnx-int8,onnx-int8-static"
    write_rows(tmp_path / "few.tsv", make_rows(2))
    with pytest.raises(InputError, match=r"with the tokens of this table alone: agreement .* trim with a table"):
        export(model=meta_teacher, table=tables["dev"], out=out, trim=tmp_path / "few.tsv")
    export(model=meta_teacher, table=tables["dev"], out=out, formats=formats, trim=tmp_path / "few.tsv", max_loss=99.0)
    facts = json.loads((out / "export.json").read_text())
    assert facts["tokens"] < facts["tokens_of_model"] and list(facts["files"]) == [
        "model.onnx", "model-int8.onnx", "model-int8-static.onnx",
    ]  # fmt: skip
    assert "calibrated" in facts["files"]["model-int8-static.onnx"]["way"]
    capsys.readouterr()
    verify(model=out, table=tables["dev"], threads=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("exported: processor ") and lines[1].startswith("here: processor ") and len(lines) == 5
    for name, line in zip(facts["files"], lines[2:], strict=True):
        assert line.startswith(f"{out / name}: agreement {100 * facts['files'][name]['agreement']:.2f} %")
    with pytest.raises(InputError, match=r"test\.tsv is not the table .* exported with, which was .*dev\.tsv"):
        verify(model=out, table=tables["test"])
    (out / "model.onnx").rename(tmp_path / "model.onnx")  # only the small files were shipped
    verify(model=out, table=tables["dev"])
    assert f"{out / 'model.onnx'}: is not there" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"^model-int8\.onnx and .* may lose more than 1 points on this machine"):
        verify(model=out, table=tables["dev"], max_loss=1.0)
    (out / "model-int8.onnx").write_bytes((out / "model-int8.onnx").read_bytes()[:-1] + b"x")
    with pytest.raises(
        InputError, match=r"model-int8\.onnx was changed after it was written: .* other bytes; copy it again"
    ):
        verify(model=out, table=tables["dev"])
    (out / "export.json").write_text("[]")
    with pytest.raises(InputError, match=r"export\.json is damaged; export the model again"):
        verify(model=out, table=tables["dev"])
    with pytest.raises(InputError, match="e holds exported files; name the folder of"):
        script("experiments/evaluate.py").main(model=out, table=tables["test"], out=tmp_path / "x.json")
    with pytest.raises(InputError, match=r"max_length is 2, but 3 tokens of a row are special; use 4 or more"):
        script("experiments/predict.py").main(
            model=meta_teacher, table=tables["test"], out=tmp_path / "x.tsv", max_length=2
        )
    with pytest.raises(InputError, match=r"holds no export\.json"):
        verify(model=meta_teacher, table=tables["dev"])
