"""What other code made is used with one warning, or made anew; reports name the code of every step."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from metakd.fingerprint import code_fingerprint
from tests.conftest import CUT_FROM_PRETRAINED, Tables, make_task, read_method, script

OTHER_SOURCE = "0123456789abcdef"


@pytest.fixture
def run_other_code(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after which all steps run with other code."""
    other = {**code_fingerprint(), "source": OTHER_SOURCE}

    def change() -> None:
        for module in ("metakd.fingerprint", "metakd.steps"):
            monkeypatch.setattr(f"{module}.code_fingerprint", lambda: other)

    return change


def test_every_script_warns_of_other_code_and_can_make_its_output_anew(
    tmp_path: Path,
    tables: Tables,
    pretrained: Path,
    run_other_code: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    task, method = make_task(tables, pretrained, CUT_FROM_PRETRAINED), read_method(teacher_epochs=6)
    embeddings, teacher, student = tmp_path / "embeddings", tmp_path / "teacher", tmp_path / "student"
    evaluation = tmp_path / "student.json"
    both = {"task": task, "method": method}
    steps = {
        "data_prep/extract_embeddings.py": {**both, "out": embeddings},
        "data_prep/prototype_weights.py": {**both, "embeddings": embeddings, "out": tmp_path / "weighted.tsv"},
        "experiments/train_teacher.py": {**both, "out": teacher, "allow_weak": True},
        "experiments/distill.py": {**both, "teacher": str(teacher), "domain": "books", "out": student},
        "experiments/evaluate.py": {
            "model": student, "table": tables["test"], "teacher": teacher, "domain": "books", "out": evaluation
        },
        "experiments/predict.py": {"model": student, "table": tables["test"], "out": tmp_path / "p.tsv"},
        "experiments/trim_vocabulary.py": {"model": student, "table": tables["train"], "out": tmp_path / "trimmed"},
    }  # fmt: skip

    def source(out: Path) -> str:
        manifest = out / "manifest.json" if out.is_dir() else out.with_name(f"{out.name}.manifest.json")
        return json.loads(manifest.read_text())["code"]["source"]

    def warnings() -> list[str]:
        return [record.message for record in caplog.records if "made by other code" in record.message]

    def report() -> str:
        script("experiments/report.py").main(out=tmp_path / "report", evaluations=str(evaluation))
        return (tmp_path / "report/report.md").read_text()

    own_source = code_fingerprint()["source"]
    for path, options in steps.items():
        script(path).main(**options)
        assert source(options["out"]) == own_source and not warnings()
    assert "WARNING" not in report() and own_source in report()
    run_other_code()
    for path, options in steps.items():
        script(path).main(**options)
        (message,) = warnings()
        assert message.startswith(f"finished before: {options['out']}, but made by other code")
        assert own_source in message and OTHER_SOURCE in message and "--remake true" in message
        assert source(options["out"]) == own_source
        caplog.clear()
    for path, options in steps.items():
        if path == "experiments/evaluate.py":  # so far only its inputs are made anew
            assert "WARNING: different code" in report() and own_source in report() and OTHER_SOURCE in report()
        script(path).main(**options, remake=True)
        assert not warnings() and source(options["out"]) == OTHER_SOURCE
        # The same settings and seed give the same files, so nothing else has changed for the next step.
        assert f"code changed, making anew: {options['out']}" in caplog.text
    assert "WARNING" not in report() and OTHER_SOURCE in report()


def test_other_settings_make_an_output_of_other_code_anew(
    tmp_path: Path,
    tables: Tables,
    pretrained: Path,
    run_other_code: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    task, method = make_task(tables, pretrained, CUT_FROM_PRETRAINED), read_method("label_only", prediction=1)
    out, distill = tmp_path / "student", script("experiments/distill.py").main
    distill(task=task, method=method, domain="books", out=out)
    run_other_code()
    method.stages[0].epochs = 2
    distill(task=task, method=method, domain="books", out=out)
    assert "settings or inputs changed, making anew" in caplog.text and "made by other code" not in caplog.text
    assert json.loads((out / "manifest.json").read_text())["code"]["source"] == OTHER_SOURCE
