"""A study of translators: every step of its plan runs in this process, then the report reads the cells."""

import json
import re
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from metakd.cli import options
from metakd.errors import InputError
from metakd.manifests import read_json
from metakd.studies.cells import read_cells
from metakd.studies.scheduler import Job, Outcome
from metakd.studies.study import Study
from metakd.studies.translations import of_translations, plan_translations
from tests.conftest import ROOT, script

METHODS = ROOT / "experiments/translation/methods"
KD = "word_and_sequence_kd"


class ThisProcess:
    """An engine that runs one job at a time in this process, which is ten times faster than a process each."""

    slots = 1

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []

    def submit(self, job: Job) -> Future[Outcome]:
        self.commands.append(job.command)
        _, path, *arguments = job.command
        main = script(path).main
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [path, *arguments])
            main(**options(main))
        future: Future[Outcome] = Future()
        future.set_result(Outcome(0, 0.0))
        return future

    def close(self) -> None:
        pass


@pytest.fixture
def study(tmp_path: Path) -> Study:
    tables = tmp_path / "tables"
    script("data_prep/synthetic_translation.py").main(tables, train=64, dev=8, test=12, vocabulary=200)
    small = {"hidden_size": 16, "layers": 1, "heads": 2, "dropout": 0.0}
    task = {
        "problem": "translation", **{name: str(tables / f"{name}.tsv") for name in ("train", "dev", "test")},
        "tokenizer": str(tables / "tokenizer"), "max_length": 100, "teacher": small, "student": {"layers": 1},
        "epochs_scale": 0.07, "training": {"max_tokens": 500, "precision": "fp32", "log_with": []},
    }  # fmt: skip
    (tmp_path / "pair.yaml").write_text(json.dumps(task))
    methods = {name: {"file": str(METHODS / f"{name}.yaml")} for name in ("translation_reference", KD)}
    methods[KD]["change"] = {"terms.label": None, "beam": 2}
    (tmp_path / "study.yaml").write_text(json.dumps({
        "tasks": [str(tmp_path / "pair.yaml")], "methods": methods, "reference": "translation_reference",
        "controls": ["teacher"], "seeds": [1, 2], "overrides": {"task.training.weight_decay": 0.0},
    }))  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["compare.py", f"--study={tmp_path / 'study.yaml'}", f"--out={tmp_path / 'out'}"])
        return options(script("experiments/compare.py").main)["study"]


def test_a_study_of_translators(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare, engine, out = script("experiments/compare.py"), ThisProcess(), tmp_path / "out"
    monkeypatch.setattr(compare, "make_engine", lambda name, workers: engine)
    compare.main(study, out)
    scripts = [Path(command[1]).name for command in engine.commands]
    # 1 teacher and 2 x 2 students; each is translated and scored greedily and by beam, the training table once
    assert [scripts.count(f"{name}.py") for name in ("train_translator", "translate", "evaluate_translation")] == [
        5, 11, 10,
    ]  # fmt: skip
    cells = read_cells(out)
    assert len(cells) == 2 * 2 * 2 and not any(cell["failed"] for cell in cells)
    by_name = {(cell["cell"]["kind"], cell["cell"]["method"], cell["cell"]["seed"]): cell for cell in cells}
    cell, teacher = by_name["method", KD, 2], by_name["teacher", KD, 2]
    assert teacher["key"] == by_name["teacher", "translation_reference", 1]["key"]  # one teacher for all
    scores = read_json(out / f"runs/pair-seed2/{KD}/student.test-beam1.json")["model"]
    assert cell["scores"]["bleu"] == pytest.approx(scores["bleu"], abs=1e-6)
    assert {"chrf", "length_ratio", "parameters", "size_bytes", "rows_per_second", "beam_bleu"} <= set(cell["scores"])
    assert cell["signatures"]["bleu_signature"].startswith("nrefs:1")
    assert len(cell["rows"]["bleu"]) == 12 and set(cell["rows"]) == {"guid", "label", "bleu"}  # no text
    assert len(cell["history"]["training"]["epochs"]) == 2
    texts = (tmp_path / "tables/test.tsv").read_text().split("\t")
    assert not any(text in json.dumps(cell) for text in texts if " " in text)
    engine.commands.clear()
    compare.main(study, out)
    assert not engine.commands  # finished cells are not run again
    script("experiments/study_report.py").main(out, tmp_path / "report")
    report = (tmp_path / "report/report.md").read_text()
    assert f"teacher of translation_reference, {KD}" in report
    beams = [read_json(out / f"runs/pair-seed{seed}/{KD}/student.test-beam5.json")["model"]["bleu"] for seed in (1, 2)]
    assert re.search(rf"^\| {KD} +\| +2 \|.* {sum(beams) / 2:.1f} \|", report, re.MULTILINE)
    assert "nrefs:1" in report


def test_what_translations_do_not_have_is_refused(study: Study, tmp_path: Path) -> None:
    assert of_translations(study)
    for field, value in {"domains": ["books"], "fractions": [0.5], "controls": ["tfidf"], "students": [{}]}.items():
        given = Study(**{**vars(study), field: value})
        with pytest.raises(InputError, match=field):
            plan_translations(given, tmp_path / "out")
    study.tasks.append(str(ROOT / "experiments/tasks/mrpc.yaml"))
    with pytest.raises(InputError, match="make two studies"):
        of_translations(study)
