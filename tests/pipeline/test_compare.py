"""Studies, whole: tiny models through every step, kills, failures, and a cluster that loses a machine."""

import json
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from metakd.data.tables import read_rows, write_rows
from metakd.evaluation.sections.teachers import read_analyses
from metakd.manifests import read_json
from metakd.studies.cells import read_cells
from metakd.studies.engines import available_cores
from metakd.studies.grid import plan_study
from metakd.studies.study import Study
from tests.conftest import (
    CUT_FROM_PRETRAINED,
    ROOT,
    Tables,
    command,
    distill,
    environment,
    evaluate,
    make_task,
    read_history,
    read_method,
    read_yaml,
    run_script,
    script,
    train_teacher,
    wait_until,
    write_yaml,
)

METHODS = {"vanilla": {}, "broken": {"stages.prediction.terms.logits.loss": "no such loss"}}


@pytest.fixture
def study_file(tmp_path: Path, tables: Tables, pretrained: Path) -> Path:
    """A study of tiny models in one domain; one of its methods cannot be trained."""
    write_yaml(tmp_path / "tiny.yaml", make_task(tables, pretrained, CUT_FROM_PRETRAINED))
    methods = {}
    for name, change in METHODS.items():
        methods[name] = {"file": str(write_yaml(tmp_path / "vanilla.yaml", read_method("vanilla"))), "change": change}
    study = {"tasks": [str(tmp_path / "tiny.yaml")], "methods": methods, "reference": "vanilla", "seeds": [1]}
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps({**study, "domains": ["books"], "controls": ["tfidf", "teacher"]}))  # JSON is YAML
    return file


def read_by_method(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(cell["cell"]["kind"], cell["cell"]["method"]): cell for cell in read_cells(folder)}


def test_a_study_survives_a_kill_and_a_failure(tmp_path: Path, study_file: Path, tables: Tables) -> None:
    out, arguments = tmp_path / "out", ("--study", study_file, "--out", tmp_path / "out", "--workers", 2)
    compare = command("experiments/compare.py", *arguments)
    study = subprocess.Popen(
        compare, env=environment(tmp_path), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    finished_teacher = "runs/tiny-seed1/teachers/mix-" + 8 * "[0-9a-f]"
    wait_until(lambda: list(out.glob(finished_teacher)))
    study.kill()
    study.wait()
    wait_until(lambda: not commands_of(out))
    teacher = next(out.glob(finished_teacher))
    trained = (teacher / "manifest.json").stat().st_mtime_ns
    done = run_script(tmp_path, "experiments/compare.py", *arguments)
    assert done.returncode == 1, done.stderr
    assert (teacher / "manifest.json").stat().st_mtime_ns == trained
    failure = "loss 'no such loss' does not fit feature 'logits'"
    assert "1 results failed:" in done.stderr and "tiny books seed 1 broken" in done.stderr and failure in done.stderr
    cells = read_by_method(out)
    assert set(cells) == {(kind, name) for kind in ("method", "teacher") for name in METHODS} | {("control", "tfidf")}
    failed = cells["method", "broken"]["failed"]
    assert failed["step"].startswith("check ") and failure in failed["message"]
    assert failure in Path(failed["log"]).read_text()
    assert cells["teacher", "broken"]["key"] == cells["teacher", "vanilla"]["key"]  # it shares the teacher
    student = next(out.glob("runs/tiny-seed1/methods/vanilla-*/students/books"))
    check_cell(cells["method", "vanilla"], tables, student, teacher)
    script("experiments/study_report.py").main(study_folder=out, out=out / "report")
    assert "vanilla" in (out / "report/report.html").read_text("utf-8")
    left = run_script(tmp_path, "experiments/compare.py", *arguments, "--dry_run", "true")
    assert left.returncode == 0 and not left.stderr
    steps = [shlex.split(line) for line in left.stdout.splitlines()]
    assert {Path(words[2]).stem for words in steps} == {"check_task", "train_teacher", "evaluate", "distill"}
    assert all(words[0].startswith("OMP_NUM_THREADS=") for words in steps) and len(steps) == 5


def check_cell(cell: dict[str, Any], tables: Tables, student: Path, teacher: Path) -> None:
    """Compare a cell with its models, which plain transformers loads."""
    rows = [row for row in read_rows(tables["test"]) if row["domain"] == "books"]
    assert cell["rows"]["guid"] == [row["guid"] for row in rows] and "text_a" not in json.dumps(cell)
    labels = np.array([["negative", "positive"].index(row["label"]) for row in rows])
    assert cell["labels"] == ["negative", "positive"] and cell["rows"]["label"] == labels.tolist()
    texts = [row["text_a"] for row in rows]
    by_student, by_teacher = np.array(cell["rows"]["probabilities"]), np.array(cell["teacher_probabilities"])
    assert by_student == pytest.approx(probabilities(student, texts), abs=0.02)  # bf16 where the machine has it
    assert by_teacher == pytest.approx(probabilities(teacher, texts), abs=0.02)
    scores = cell["scores"]
    assert scores["accuracy"] == pytest.approx((by_student.argmax(1) == labels).mean())
    assert scores["agreement"] == pytest.approx((by_student.argmax(1) == by_teacher.argmax(1)).mean())
    assert scores["brier"] == pytest.approx(((by_student - np.eye(2)[labels]) ** 2).sum(1).mean(), abs=1e-3)
    assert scores["rows_per_second"] > 0 and scores["size_bytes"] == (student / "model.safetensors").stat().st_size
    assert set(cell["seconds"]) == {"teacher", "student", "evaluation"} and cell["peak_memory_mb"] > 100
    history = read_json(student / "history.json")["prediction"]
    assert cell["history"]["prediction"]["losses"] == pytest.approx(history["losses"], rel=1e-4)
    assert cell["teacher_history"]["steps"] == len(read_json(teacher / "history.json")["losses"])
    assert cell["settings"]["method"]["teacher"]["kind"] == "mix"
    assert cell["starts_from"] == "layers 1, 4 of the pretrained encoder"


def probabilities(folder: Path, texts: list[str]) -> np.ndarray:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        return model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.double().softmax(1).numpy()


def commands_of(folder: Path) -> dict[int, str]:
    """Command lines of the running processes that read or write the folder, by process id."""
    commands = {}
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if f"{folder}/" in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            commands[process.info["pid"]] = line
    return commands


def test_epochs_are_chosen_by_the_score_that_the_task_names(tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    # Of the negative rows most are called positive, so accuracy and macro-F1 differ for every prediction.
    rows = [
        {**row, "label": row["label"] if i % 8 < 5 else "positive"} for i, row in enumerate(read_rows(tables["dev"]))
    ]
    write_rows(tables["dev"], rows)
    task = make_task(tables, pretrained, CUT_FROM_PRETRAINED, select_by="macro_f1")
    teacher = train_teacher(tmp_path, task, read_method("vanilla"), allow_weak=True)
    label_only = read_method("label_only", prediction=12)
    label_only.stages[0].learning_rate = 3e-3
    student = distill(tmp_path / "student", task, label_only, domain="books")
    score = read_history(teacher)["best"]["dev"]["score"]
    by_domain = evaluate(tmp_path / "teacher.json", teacher, tables["dev"])["model"]["domains"].values()
    assert score == pytest.approx(np.mean([scores["macro_f1"] for scores in by_domain]))
    assert score != pytest.approx(np.mean([scores["accuracy"] for scores in by_domain]))
    score = read_history(student)["prediction"]["best"]["dev"]["score"]
    scores = evaluate(tmp_path / "student.json", student, tables["dev"], domain="books")["model"]
    assert score == pytest.approx(scores["macro_f1"]) != pytest.approx(scores["accuracy"])


def test_a_study_with_embeddings_and_prototype_weights(tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    task = write_yaml(tmp_path / "tiny.yaml", make_task(tables, pretrained, CUT_FROM_PRETRAINED))
    study = {
        "tasks": [str(task)], "reference": "metakd", "domains": ["books"], "controls": ["embeddings"], "seeds": [1],
        "methods": {
            "tinybert": {"file": str(write_yaml(tmp_path / "tinybert.yaml", read_method("tinybert", 24)))},
            "metakd": {"file": str(write_yaml(tmp_path / "metakd.yaml", read_method("metakd", 24)))},
        },
        "overrides": {"task.epochs_scale": 0.5},
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    out, compare = tmp_path / "out", script("experiments/compare.py").main
    compare(study=read_yaml(tmp_path / "study.yaml", Study), out=out)
    cells = read_by_method(out)
    assert set(cells) == {("method", "tinybert"), ("method", "metakd"), ("control", "embeddings")}
    assert [cell["failed"] for cell in cells.values()] == [None] * 3
    assert {"embeddings", "weights", "teacher", "student"} <= set(cells["method", "metakd"]["seconds"])
    for method in ("tinybert", "metakd"):
        assert len(cells["method", method]["teacher_history"]["epochs"]) == 12  # half of 24
    (teacher,) = (out / "runs/tiny-seed1/teachers").glob("meta-????????")
    (weighted,) = (out / "runs/tiny-seed1/weights").glob("*.tsv")
    (analysis,) = read_analyses(out)
    assert (analysis.facts["teacher"], analysis.facts["table"]) == (str(teacher), str(weighted))
    script("experiments/study_report.py").main(study_folder=out, out=out / "report")
    report = (out / "report/report.md").read_text("utf-8")
    for title in ("Prototype weights", "Expertise weight and the teacher's error", "Domain features before and after"):
        assert f"## {title}" in report
    analysis_file = next((out / "analyses").glob("*.json.gz"))
    plan, finished = plan_study(read_yaml(tmp_path / "study.yaml", Study), out), lambda planned: True
    assert not plan.unfinished(finished).steps
    analysis_file.unlink()
    steps = plan.unfinished(finished).steps
    assert [step.kind for step in steps.values()] == ["check", "embeddings", "weights", "teacher", "analysis"]
    shutil.rmtree(teacher)  # of a finished study only the results are left
    assert not plan.unfinished(finished).steps


@pytest.mark.ray
def test_a_cluster_that_loses_a_machine_gives_the_same_results(
    tmp_path: Path, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's default of 15 starves steps on a busy machine
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    study = read_yaml(study_file, Study, "--file.domains=[books, films]", "--file.controls=[majority]")
    main, out = script("experiments/compare.py").main, tmp_path / "cluster"
    cores = available_cores()  # so each step asks for one CPU
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        with ThreadPoolExecutor(1) as thread:
            run = thread.submit(main, study=study, out=out, workers=cores, engine="ray")
            wait_until(lambda: len(commands_of(out)) == 2)
            before = commands_of(out)
            cluster.remove_node(node, allow_graceful=False)
            wait_until(lambda: before.keys() - commands_of(out).keys())
            (lost,) = before.keys() - commands_of(out).keys()
            wait_until(lambda: before[lost] in [line for pid, line in commands_of(out).items() if pid not in before])
            assert isinstance(run.exception(), SystemExit)  # one method cannot be trained
    finally:
        ray.shutdown()
        cluster.shutdown()
    with pytest.raises(SystemExit):
        main(study=study, out=tmp_path / "local", workers=cores)
    lost_a_machine, local = read_cells(out), read_cells(tmp_path / "local")
    assert len(local) == 6 and sum(cell["failed"] is not None for cell in local) == 2
    for cell, other in zip(lost_a_machine, local, strict=True):
        assert cell["cell"] == other["cell"] and (cell["failed"] is None) == (other["failed"] is None)
        for name in ("rows", "teacher_probabilities", "history", "teacher_history"):
            assert cell.get(name) == other.get(name), name
