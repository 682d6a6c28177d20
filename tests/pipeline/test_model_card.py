"""A model card is made from what other steps left; the Hub can read it, and its snippet runs."""

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from metakd.config import StaticStudent
from metakd.errors import InputError
from tests.conftest import CUT, Tables, distill, evaluate, make_task, read_method, script


def test_the_card_of_a_calibrated_and_exported_student(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path
) -> None:
    student = distill(
        tmp_path / "s", make_task(tables, pretrained, CUT), read_method("soft_hard"), teacher=str(meta_teacher),
        domain="films", name="soft_hard",
    )  # fmt: skip
    files = [tmp_path / f"{domain}.json" for domain in ("films", "books")]
    for file in files:
        evaluate(file, student, tables["test"], teacher=meta_teacher, domain=file.stem)
    calibrated, exported = tmp_path / "calibrated", tmp_path / "exported"
    script("experiments/calibrate.py").main(model=student, table=tables["dev"], out=calibrated, target=0.3)
    script("experiments/export.py").main(model=calibrated, table=tables["train"], out=exported, formats="onnx")
    card = script("experiments/model_card.py").main
    card(model=calibrated, evaluations=files, exported=exported)
    content = ModelCard.load(calibrated / "README.md")
    scores = [json.loads(file.read_text())["model"] for file in files]
    results = {(r.dataset_config, r.metric_type): r.metric_value for r in content.data.eval_results}
    assert results["films", "accuracy"] == pytest.approx(scores[0]["accuracy"], abs=1e-4)
    assert results["books", "macro_f1"] == pytest.approx(scores[1]["macro_f1"], abs=1e-4)
    assert content.data.pipeline_tag == "text-classification" and content.data.library_name == "transformers"
    text = content.text
    assert f"Distilled for films by the method soft_hard from {meta_teacher}." in text
    assert "Stage prediction: 16 rows, 16 of them with a label." in text and "Labels: negative, positive." in text
    assert "Calibrated on 24 dev rows" in text and "| model.onnx" in text and re.search(r"\| films +\| test.tsv", text)
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    printed: list = []
    exec(snippet, {"print": printed.append})
    assert printed[0][0]["label"] in ("negative", "positive")
    assert "calibration.html" in {file.name for file in calibrated.iterdir()}

    with pytest.raises(InputError, match=r"films\.json was not made from .*teacher as it is now"):
        card(model=meta_teacher, evaluations=files)
    with pytest.raises(InputError, match=r"exported was not made from .*s as it is now"):
        card(model=student, exported=exported)
    (calibrated / "README.md").write_text("with a licence")
    card(model=calibrated)
    assert (calibrated / "README.md.kept").read_text() == "with a licence"
    card(model=calibrated, out=tmp_path / "new/card.md")
    assert (tmp_path / "new/card.md").read_text() == (calibrated / "README.md").read_text()
    config = student / "config.json"
    config.write_text(config.read_text().replace("negative", "bad"))
    with pytest.raises(InputError, match=r"s was changed after it was finished: config\.json has .* bytes"):
        card(model=student)
    config.write_text(config.read_text().replace("bad", "negative"))
    with pytest.raises(InputError, match="is no evaluation"):
        card(model=student, evaluations=[student / "config.json"])
    with pytest.raises(InputError, match="holds no classifier"):
        card(model=tmp_path)
    card(model=meta_teacher, out=tmp_path / "t.md")
    text = (tmp_path / "t.md").read_text()
    assert "None were measured." in text and "Not calibrated" in text and "Trained on all domains" in text


def test_the_card_of_an_architecture_of_ours_imports_it(tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    method = read_method("label_only")
    student = distill(
        tmp_path / "s",
        make_task(tables, pretrained, StaticStudent("static", embedding_size=8, of="pretrained")),
        method,
    )
    script("experiments/model_card.py").main(model=student)
    (snippet,) = re.findall(r"```python\n(.*?)```", (student / "README.md").read_text(), re.DOTALL)
    assert snippet.startswith("import metakd.models.loading")
    exec(snippet, {"print": lambda values: None})
