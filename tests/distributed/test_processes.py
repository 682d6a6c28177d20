"""Real processes: 1, 2 (gloo) and gradient accumulation compute the same; a killed run ends like an unkilled one."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from metakd.config import Task, Training
from metakd.data.row_store import RowStore
from metakd.data.tables import read_rows
from metakd.methods.method import Method
from tests.conftest import (
    CUT,
    CUT_FROM_PRETRAINED,
    ROOT,
    Tables,
    command,
    distill,
    environment,
    make_task,
    read_history,
    read_method,
    run_script,
    script,
    train_teacher,
    wait_until,
    write_yaml,
)

TOLERANCE = 1e-4  # relative, on the loss of every step: sums in another order, fp32
EVERY_STEP = ["--task.training.checkpoint_seconds", 0]


class Setup(NamedTuple):
    """A task and a method, as objects for this process and as command-line options for others."""

    task: Task
    method: Method
    options: list[object]


@pytest.fixture
def setup(tmp_path: Path, tables: Tables, pretrained: Path) -> Setup:
    training = Training(batch_size=7, precision="fp32", log_with=[])  # 7 divides neither 48 rows nor 2 processes
    task = make_task(tables, pretrained, CUT, training=training)
    method = read_method(teacher_epochs=3, intermediate=2, prediction=4)
    task_file, method_file = write_yaml(tmp_path / "task.yaml", task), write_yaml(tmp_path / "method.yaml", method)
    return Setup(task, method, ["--task", task_file, "--method", method_file])


def run(tmp_path: Path, path: str, *arguments: object, processes: int = 1) -> str:
    """Run a script that must succeed, and return what it printed."""
    process = run_script(tmp_path, path, *arguments, processes=processes)
    assert process.returncode == 0, process.stderr
    return process.stdout


def teacher_command(setup: Setup, out: Path) -> list[object]:
    return ["experiments/train_teacher.py", *setup.options, "--out", out, "--allow_weak", "true"]


def student_command(setup: Setup, teacher: Path, out: Path) -> list[object]:
    return ["experiments/distill.py", *setup.options, "--teacher", teacher, "--domain", "books", "--out", out]


def loss_curves(teacher: Path, student: Path) -> list[list[float]]:
    stages = read_history(student)
    return [read_history(teacher)["losses"], stages["intermediate"]["losses"], stages["prediction"]["losses"]]


def test_one_process_two_processes_and_accumulation_compute_the_same(tmp_path: Path, setup: Setup) -> None:
    """Dropout is 0 here: its masks differ with the shape of the batches."""
    task, method, _ = setup
    accumulating = replace(task, training=replace(task.training, micro_batch_size=4))
    # All students learn from one teacher: over many steps, rounding differences of two teachers would grow.
    one = train_teacher(tmp_path, task, method, out=tmp_path / "one", allow_weak=True)
    accumulated = train_teacher(tmp_path, accumulating, method, out=tmp_path / "accumulated", allow_weak=True)
    two = tmp_path / "two"
    run(tmp_path, *teacher_command(setup, two), processes=2)
    options = {"teacher": str(one), "domain": "books"}
    expected = loss_curves(one, distill(tmp_path / "student1", task, method, **options))
    assert RowStore(tmp_path / "one.logits/books").values.shape == (16, 2)
    assert [len(curve) for curve in expected] == [3 * 7, 2 * 3, 4 * 3]
    copy = shutil.copytree(one, tmp_path / "copy")  # its logits are computed by two processes too
    run(tmp_path, *student_command(setup, copy, tmp_path / "student2"), processes=2)
    curves = {
        "accumulated": loss_curves(accumulated, distill(tmp_path / "student3", accumulating, method, **options)),
        "two": loss_curves(two, tmp_path / "student2"),
    }
    for variant in curves.values():
        for losses, wanted in zip(variant, expected, strict=True):
            np.testing.assert_allclose(losses, wanted, rtol=TOLERANCE)
    dev_scores = [[epoch["dev"] for epoch in read_history(folder)["epochs"]] for folder in (one, accumulated, two)]
    assert dev_scores[0] == dev_scores[1] == dev_scores[2]


def test_bf16_learns_alike(tmp_path: Path, setup: Setup) -> None:
    """Autocast runs anywhere, slowly; 8 bits of mantissa leave some percent of difference."""
    full = train_teacher(tmp_path, setup.task, setup.method, out=tmp_path / "full", allow_weak=True)
    distill(tmp_path / "full_student", setup.task, setup.method, teacher=str(full), domain="books")
    bf16 = ["--task.training.precision", "bf16"]
    run(tmp_path, *teacher_command(setup, tmp_path / "half"), *bf16)
    copy = shutil.copytree(full, tmp_path / "copy")  # its logits are computed in bf16 too
    run(tmp_path, *student_command(setup, copy, tmp_path / "half_student"), *bf16)
    teachers = [read_history(tmp_path / name)["losses"][:5] for name in ("half", "full")]
    np.testing.assert_allclose(teachers[0], teachers[1], rtol=0.05)
    students = [read_history(tmp_path / name)["intermediate"]["losses"] for name in ("half_student", "full_student")]
    np.testing.assert_allclose(students[0], students[1], rtol=0.05)
    assert teachers[0] != teachers[1] and students[0] != students[1]


def test_two_processes_share_the_rows_of_an_embedding_pass(tmp_path: Path, setup: Setup) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    script("data_prep/extract_embeddings.py").main(task=setup.task, method=setup.method, out=one)
    printed = run(tmp_path, "data_prep/extract_embeddings.py", *setup.options, "--out", two, processes=2)
    assert printed.count("48 rows") == 1  # only the main process prints
    np.testing.assert_allclose(np.load(two / "values.npy"), np.load(one / "values.npy"), rtol=1e-5, atol=1e-6)


def test_a_killed_embedding_pass_goes_on(tmp_path: Path, setup: Setup) -> None:
    out = tmp_path / "embeddings"
    arguments: list[object] = ["data_prep/extract_embeddings.py", *setup.options, "--out", out]
    kill_when((tmp_path / "embeddings.partial/done.npy").exists, arguments, tmp_path)
    run(tmp_path, *arguments)
    assert np.load(out / "done.npy").all()
    assert (np.abs(np.load(out / "values.npy")).sum(1) > 0).all()


def read_predictions(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_heads_per_domain_and_files_of_logits_in_two_processes(tmp_path: Path, setup: Setup, tables: Tables) -> None:
    mtl, vanilla = read_method("vanilla", teacher_epochs=3), read_method("vanilla")
    mtl.teacher.kind = "mtl"
    write_yaml(tmp_path / "method.yaml", mtl)
    one = train_teacher(tmp_path, setup.task, mtl, out=tmp_path / "teacher1", allow_weak=True)
    run(tmp_path, *teacher_command(setup, tmp_path / "teacher2"), processes=2)
    losses = [read_history(tmp_path / name)["losses"] for name in ("teacher1", "teacher2")]
    np.testing.assert_allclose(losses[1], losses[0], rtol=TOLERANCE)

    files = [tmp_path / "logits1.tsv", tmp_path / "logits2.tsv"]
    arguments: list[object] = ["experiments/predict.py", "--model", one / "books", "--table", tables["train"], "--out"]
    run(tmp_path, *arguments, files[0])
    started = tmp_path / ".logits2.tsv.logits.partial/done.npy"
    kill_when(started.exists, [*arguments, files[1]], tmp_path, processes=2)
    run(tmp_path, *arguments, files[1], processes=2)
    predictions = [read_predictions(file) for file in files]
    assert [row["guid"] for row in predictions[1]] == [row["guid"] for row in read_rows(tables["train"])]
    for first, second in zip(*predictions, strict=True):
        assert float(second["logit.positive"]) == pytest.approx(float(first["logit.positive"]), rel=1e-4, abs=1e-5)

    task = replace(setup.task, student=CUT_FROM_PRETRAINED)
    distill(tmp_path / "student1", task, vanilla, logits=str(files[0]), domain="books")
    write_yaml(tmp_path / "method.yaml", vanilla)
    run(
        tmp_path, "experiments/distill.py", *setup.options, "--task.student", "{layers: 2, of: pretrained}",
        "--logits", files[0], "--domain", "books", "--out", tmp_path / "student2", processes=2,
    )  # fmt: skip
    losses = [read_history(tmp_path / name)["prediction"]["losses"] for name in ("student1", "student2")]
    np.testing.assert_allclose(losses[1], losses[0], rtol=TOLERANCE)


def kill_when(condition: Callable[[], bool], arguments: list[object], tmp_path: Path, processes: int = 1) -> bool:
    """Start a script and kill -9 it and its children once the condition holds; False if it ended before."""
    process = psutil.Popen(
        command(*map(str, arguments), processes=processes), env=environment(tmp_path), cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None:
        if condition():
            family = [process, *process.children(recursive=True)]
            for member in family:
                member.kill()
            psutil.wait_procs(family)
            return True
        time.sleep(0.002)
    return False


def step_of(checkpoint: Path) -> int:
    try:
        with safe_open(checkpoint, "pt") as file:
            return json.loads(file.metadata()["progress"])["step"]
    except (OSError, RuntimeError):  # not there yet, or replaced while safetensors, which opens it twice, was reading
        return 0


def test_killed_runs_end_like_the_run_that_was_never_killed(tmp_path: Path, setup: Setup) -> None:
    """With dropout, and killed at several moments: in an epoch, between epochs, between stages, in stage 2."""
    config = tmp_path / "encoder" / "config.json"
    config.write_text(config.read_text().replace('"hidden_dropout_prob": 0.0', '"hidden_dropout_prob": 0.2'))
    calm = train_teacher(tmp_path, setup.task, setup.method, out=tmp_path / "calm", allow_weak=True)
    calm_student = distill(tmp_path / "calm_student", setup.task, setup.method, teacher=str(calm), domain="books")

    killed = tmp_path / "killed"
    arguments = [*teacher_command(setup, killed), *EVERY_STEP]
    checkpoint = tmp_path / ".killed.scratch/training/checkpoint.safetensors"
    for step in (3, 7):
        assert kill_when(lambda step=step: step_of(checkpoint) >= step, arguments, tmp_path)
    assert not killed.exists()
    run(tmp_path, *arguments)
    assert read_history(killed) == read_history(calm)

    killed_student, scratch = tmp_path / "killed_student", tmp_path / ".killed_student.scratch"
    arguments = [*student_command(setup, killed, killed_student), *EVERY_STEP]
    for stage, step in (("stage-0", 2), ("stage-0", 6), ("stage-1", 4)):
        checkpoint = scratch / stage / "training/checkpoint.safetensors"
        assert kill_when(lambda c=checkpoint, s=step: step_of(c) >= s, arguments, tmp_path)
    assert not killed_student.exists()
    run(tmp_path, *arguments)
    assert read_history(killed_student) == read_history(calm_student)
    weights, expected = (load_file(folder / "model.safetensors") for folder in (killed_student, calm_student))
    assert all((weights[name] == expected[name]).all() for name in expected)


def test_two_killed_processes_end_like_two_that_were_not(tmp_path: Path, setup: Setup) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    run(tmp_path, *teacher_command(setup, calm), processes=2)
    arguments = [*teacher_command(setup, killed), *EVERY_STEP]
    checkpoint = tmp_path / ".killed.scratch/training/checkpoint.safetensors"
    assert kill_when(lambda: step_of(checkpoint) >= 9, arguments, tmp_path, processes=2)
    assert not killed.exists()
    run(tmp_path, *arguments, processes=2)
    assert read_history(killed) == read_history(calm)


def test_two_processes_end_after_a_signal_without_a_traceback(tmp_path: Path, setup: Setup) -> None:
    out = tmp_path / "stopped"
    checkpoint = tmp_path / ".stopped.scratch/training/checkpoint.safetensors"
    path, *arguments = teacher_command(setup, out)
    launch = [sys.executable, "-m", "metakd.launch", "--standalone", "--nproc_per_node", "2", str(path)]
    options = [*map(str, arguments), *map(str, EVERY_STEP), "--method.teacher.epochs", "500"]
    process = subprocess.Popen(
        [*launch, *options], env=environment(tmp_path), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    wait_until(checkpoint.exists)
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert message.count("stopped by SIGTERM") == 1 and "Traceback" not in message
