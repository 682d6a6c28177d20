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

from metakd.config import FreshStudent, Student, StudentFromTeacher, TextCNNStudent
from metakd.data.labels import Labels
from metakd.data.tables import read_rows
from metakd.errors import InputError
from metakd.export import onnx_files
from metakd.export.sessions import load_onnx
from metakd.training.inference import load_trained_classifier, predict_logits
from tests.conftest import Tables, distill, make_task, read_method, script

STUDENTS: dict[str, Student] = {
    "cut": StudentFromTeacher(2),
    "narrow": FreshStudent(8, 1, heads=2),
    "text_cnn": TextCNNStudent("text_cnn", filters=4),
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

    def broken(source: Path, file: Path, way: onnx_files.Quantisation) -> None:
        """A matrix of the last layer is rounded away, as an outlier makes of a scale per tensor."""
        model = onnx.load(source)
        head = next(tensor for tensor in reversed(model.graph.initializer) if list(tensor.dims) == [2, 16])
        head.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(head), head.name))
        onnx.save(model, file)

    monkeypatch.setattr(onnx_files, "write_int8", broken)
    with pytest.raises(InputError, match=r"(?s)no 8-bit file is known to lose at most 0\.5 points.*on 48 rows"):
        export(model=meta_teacher, table=tables["train"], out=tmp_path / "e")
    assert not (tmp_path / "e").exists()
    with pytest.raises(InputError, match="'onnx-int4' is not among"):
        export(model=meta_teacher, table=tables["train"], out=tmp_path / "e", formats="onnx-int4")
    export(model=meta_teacher, table=tables["train"], out=tmp_path / "e", formats="onnx")
    assert load_onnx(tmp_path / "e/model.onnx").labels == Labels(("negative", "positive"))
    (tmp_path / "e/model.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"no ONNX model could be loaded from '.*model\.onnx'"):
        load_onnx(tmp_path / "e/model.onnx")
