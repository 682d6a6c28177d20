"""Calibrated probabilities reach whoever loads the model; a threshold decides which rows are predicted."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from metakd.config import FreshStudent, Student, StudentFromTeacher, TextCNNStudent
from metakd.data.tables import read_rows
from metakd.errors import InputError
from tests.conftest import Tables, distill, make_task, read_method, script


def test_a_student_with_known_class_shares(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = distill(
        tmp_path / "s",
        make_task(tables, pretrained, StudentFromTeacher(2)),
        read_method("soft_hard"),
        teacher=str(meta_teacher),
        domain="films",
    )
    set_shares, out = script("experiments/set_class_shares.py").main, tmp_path / "shifted"
    set_shares(student, tables["train"], {"positive": 0.7, "negative": 0.3}, out, domain="films")
    words, facts = capsys.readouterr().out, json.loads((out / "class_shares.json").read_text())
    texts = [row["text_a"] for row in read_rows(tables["train"]) if row["domain"] == "films"]
    assert facts["rows"] == len(texts) and f"over {len(texts)} rows" in words and "to 70.0 %" in words
    inputs = AutoTokenizer.from_pretrained(out)(texts, padding=True, return_tensors="pt")
    before, after = (
        AutoModelForSequenceClassification.from_pretrained(folder).eval()(**inputs).logits.detach()
        for folder in (student, out)
    )
    assert after.softmax(1)[:, 1].mean().item() == pytest.approx(0.7, abs=1e-4)
    assert before.softmax(1)[:, 1].mean().item() == pytest.approx(facts["before"]["positive"], abs=1e-4)
    with pytest.raises(InputError, match=r"--domain flims: .*did you mean 'films'"):
        set_shares(student, tables["train"], {"positive": 0.7, "negative": 0.3}, tmp_path / "x", domain="flims")


@pytest.mark.parametrize(
    "spec", [StudentFromTeacher(2), FreshStudent(8, 1, heads=2), TextCNNStudent("text_cnn", filters=4)]
)
def test_a_calibrated_student(
    spec: Student,
    tmp_path: Path,
    tables: Tables,
    pretrained: Path,
    meta_teacher: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calibrate, predict = script("experiments/calibrate.py").main, script("experiments/predict.py").main
    method = read_method("soft_hard", prediction=3)
    method.stages[0].learning_rate = 3e-3
    student = distill(
        tmp_path / "s", make_task(tables, pretrained, spec), method, teacher=str(meta_teacher), domain="films"
    )
    out, dev = tmp_path / "calibrated", tables["train"]  # 48 rows
    calibrate(model=student, table=dev, out=out, target=0.3)
    result, words = json.loads((out / "calibration.json").read_text()), capsys.readouterr().out
    assert result["rows"] == 48 and f"temperature {result['temperature']:.3f}, from 48 rows" in words
    before, after = (AutoModelForSequenceClassification.from_pretrained(folder).eval() for folder in (student, out))
    tokenizer = AutoTokenizer.from_pretrained(out)
    texts = [row["text_a"] for row in read_rows(dev)]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    np.testing.assert_allclose(
        after(**inputs).logits.detach(), before(**inputs).logits.detach() / result["temperature"], rtol=1e-3, atol=1e-5
    )
    if not isinstance(spec, TextCNNStudent):  # which transformers knows only after metakd is imported
        assert len(pipeline("text-classification", model=str(out))(texts[:2])) == 2
    threshold = result["threshold"]["confidence"]
    assert f"--abstain_below {threshold:.6f} predicts" in words
    predict(model=out, table=dev, out=tmp_path / "p.jsonl", abstain_below=threshold)
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    sure = [max(row["probability.negative"], row["probability.positive"]) >= threshold for row in rows]
    assert [row["prediction"] != "" for row in rows] == sure and sum(sure) == result["threshold"]["rows"]
    calibrate(model=student, table=dev, out=tmp_path / "of_teacher", teacher=meta_teacher, target=0.99, domain="films")
    assert "no threshold reaches 99 % right: the best lower bound is" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"--domain flims: .*did you mean 'films'"):
        calibrate(model=student, table=dev, out=tmp_path / "x", domain="flims")
    with pytest.raises(InputError, match=r"is about predictions, which --columns logits leaves out"):
        predict(model=out, table=dev, out=tmp_path / "q.jsonl", abstain_below=0.5, columns="logits")
