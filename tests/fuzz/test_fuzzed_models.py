"""Model folders and evaluations, damaged or with odd values, are used as they should be or refused with their name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification

from metakd.data.encoding import encode
from metakd.data.tables import write_rows
from metakd.errors import InputError
from metakd.manifests import file_record
from metakd.models.domain_head import DomainHead
from metakd.models.model_io import ModelInfo, load_domain_head, save_model
from metakd.training.inference import load_trained_classifier, predict_logits
from tests.conftest import make_rows, make_tokenizer, script, tiny_config
from tests.fuzz.harness import changed, damaged, examples, result_or_input_error
from tests.unit.test_report import Run

WIDTH = 16


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A trained classifier of each of four families."""
    base, made = tmp_path_factory.mktemp("models"), []
    for family in ("bert", "roberta", "distilbert", "modernbert"):
        torch.manual_seed(3)
        config = tiny_config(family, layers=2)
        config.id2label, config.label2id = {0: "no", 1: "yes"}, {"no": 0, "yes": 1}
        model = AutoModelForSequenceClassification.from_config(config)
        tokenizer = make_tokenizer(types=family == "bert")
        save_model(base / family, model, tokenizer, ModelInfo(["books"], 32), {"domain_head": DomainHead(WIDTH, 1)})
        load_trained_classifier(base / family, None, Accelerator(cpu=True))  # whole it is accepted
        made.append(base / family)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluations")


@given(data=st.data())
@examples(60)
def test_a_damaged_model_gives_finite_logits_or_an_error(data: st.DataObject, folders: list[Path]) -> None:
    source = data.draw(st.sampled_from(folders))
    folder = source.parent / "tried"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    file = data.draw(st.sampled_from(sorted(path for path in folder.iterdir() if path.is_file())))
    if file.suffix == ".json" and data.draw(st.booleans()):
        file.write_text(json.dumps(data.draw(changed(json.loads(file.read_text("utf-8"))))), "utf-8")
    else:
        file.write_bytes(data.draw(damaged(file.read_bytes())))
    write_rows(source.parent / "rows.tsv", make_rows(3))

    def logits() -> np.ndarray:
        accelerator = Accelerator(cpu=True)
        load_domain_head(folder, WIDTH)
        classifier = load_trained_classifier(folder, None, accelerator)
        rows = encode(source.parent / "rows.tsv", classifier.tokenizer, classifier.max_length)
        return predict_logits(classifier.model, rows, accelerator, "rows")

    values = result_or_input_error(logits, folder)
    assert values is None or np.isfinite(values).all()


@given(data=st.data())
@examples(100)
def test_a_damaged_evaluation_is_noticed(data: st.DataObject, folder: Path) -> None:
    shutil.rmtree(folder)
    run, report = Run(folder), script("experiments/report.py")
    evaluation = run.evaluation("books", speed={"rows_per_second": 100.0}, notes=["a note"])
    student = run.folder / "students/books"
    history = student / "history.json"
    epochs = [{"epoch": 1, "losses": {"label": 0.7}, "dev": {"score": 0.8}}]
    history.write_text(json.dumps({"prediction": {"epochs": epochs, "losses": [0.7]}}))
    for path, manifest in ((evaluation, run.folder / "books.json.manifest.json"), (history, student / "manifest.json")):
        content = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**content, "files": {path.name: file_record(path)}}))
    report.main(run.folder / "out", str(evaluation))
    harmed = data.draw(st.sampled_from([evaluation, history, student / "manifest.json"]))
    content = harmed.read_bytes()
    if harmed.name == "manifest.json":
        harmed.write_bytes(content[: data.draw(st.integers(0, len(content) - 2))])
    else:
        harmed.write_bytes(data.draw(damaged(content).filter(lambda other: other != content)))
    with pytest.raises(InputError, match=re.escape(str(run.folder))):
        report.main(run.folder / "out", str(evaluation))
