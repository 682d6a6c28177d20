"""Real processes: 1, 2 (gloo) and gradient accumulation compute the same; a killed run ends like an unkilled one."""

import csv
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.torch import load_file

from metakd.data.row_store import RowStore
from metakd.data.tables import read_rows
from tests.conftest import ROOT, command, environment, run_script

TOLERANCE = 1e-4  # relative, on the loss of every step: sums in another order, fp32


@pytest.fixture
def task_file(tmp_path: Path, tables: dict[str, Path], encoder: Callable[..., Path]) -> Path:
    path = tmp_path / "task.yaml"
    path.write_text(
        f"train: {tables['train']}\ndev: {tables['dev']}\ntest: {tables['test']}\nteacher: {encoder()}\n"
        "student: {layers: 2}\nmax_length: 32\nepochs: {teacher: 3, intermediate: 2, prediction: 2}\n"
        "learning_rates: {teacher: 0.003}\n"
        "training: {batch_size: 7, precision: fp32}\n"  # 7 does not divide 48 rows, nor 2 processes
    )
    return path


def teacher(tmp_path: Path, task: Path, name: str, *options: str, processes: int = 1) -> Path:
    out = tmp_path / name / "teacher"
    done = run_script(
        tmp_path, "experiments/train_teacher.py", "--task", task, "--out", out,
        "--allow_weak", "true", *options, processes=processes,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def distill_arguments(task: Path, teacher_folder: Path, out: Path) -> list[object]:
    method = ROOT / "experiments/methods/metakd.yaml"
    return ["experiments/distill.py", "--task", task, "--method", method, "--teacher", teacher_folder, "--domain",
            "books", "--out", out]  # fmt: skip


def student(tmp_path: Path, task: Path, folder: Path, name: str, *options: str, processes: int = 1) -> Path:
    out = tmp_path / name / "student"
    done = run_script(tmp_path, *distill_arguments(task, folder, out), *options, processes=processes)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    return out


def history(folder: Path) -> dict:
    return json.loads((folder / "history.json").read_text())


def test_one_process_two_processes_and_accumulation_are_one(tmp_path: Path, task_file: Path) -> None:
    """Dropout is 0 here: its masks differ with the shape of the batches."""
    variants: dict[str, tuple[list[str], int]] = {
        "one": ([], 1), "two": ([], 2), "accumulated": (["--task.training.micro_batch_size", "4"], 1),
        "sharded": (["--task.training.sharded", "true", "--task.training.micro_batch_size", "2"], 2),
    }  # fmt: skip
    losses, scores = {}, {}
    for name, (options, processes) in variants.items():
        folder = teacher(tmp_path, task_file, name, *options, processes=processes)
        # All students learn from one teacher: over many steps, rounding differences of two teachers would grow.
        small = student(tmp_path, task_file, tmp_path / "one/teacher", name, *options, processes=processes)
        losses[name] = [
            history(folder)["losses"],
            *(history(small)[s]["losses"] for s in ("intermediate", "prediction")),
        ]
        scores[name] = [epoch["dev"] for epoch in history(folder)["epochs"]]
    assert RowStore(tmp_path / "one/teacher.logits/books").values.shape == (16, 2)
    assert [len(curve) for curve in losses["one"]] == [3 * 7, 2 * 3, 2 * 3]
    for name in ("two", "accumulated", "sharded"):
        for found, wanted in zip(losses[name], losses["one"], strict=True):
            np.testing.assert_allclose(found, wanted, rtol=TOLERANCE)
        assert scores[name] == scores["one"]


def test_bf16_learns_alike(tmp_path: Path, task_file: Path) -> None:
    """Autocast runs anywhere, slowly; 8 bits of mantissa leave some percent of difference."""
    bf16 = ("--task.training.precision", "bf16")
    full, half = teacher(tmp_path, task_file, "full"), teacher(tmp_path, task_file, "half", *bf16)
    np.testing.assert_allclose(history(half)["losses"][:5], history(full)["losses"][:5], rtol=0.05)
    for folder, name, options in ((full, "full", ()), (full, "half", bf16)):
        student(tmp_path, task_file, folder, name, *options)
    curves = [history(tmp_path / name / "student")["intermediate"]["losses"] for name in ("full", "half")]
    np.testing.assert_allclose(curves[1], curves[0], rtol=0.05)


def test_two_processes_share_the_rows_of_an_embedding_pass(
    tmp_path: Path, task_file: Path, tables: dict[str, Path]
) -> None:
    found = []
    for processes in (1, 2):
        out = tmp_path / f"embeddings-{processes}"
        done = run_script(
            tmp_path, "data_prep/extract_embeddings.py", "--model", tmp_path / "encoder", "--table", tables["train"],
            "--out", out, "--max_length", 32, processes=processes,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("48 rows") == 1  # one process of the two is the main one
        found.append(np.load(out / "values.npy"))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-6)


def predict_arguments(tmp_path: Path, table: Path, out: Path) -> list[object]:
    return ["experiments/predict.py", "--model", tmp_path / "teacher-1/teacher/books", "--table", table, "--out", out]


def test_heads_per_domain_and_files_of_logits_in_two_processes(
    tmp_path: Path, task_file: Path, tables: dict[str, Path]
) -> None:
    losses, students, predicted = [], [], []
    for processes in (1, 2):
        options = ("--kind", "mtl", "--task.training.sharded", "true")  # a process alone has nothing to share out
        folder = teacher(tmp_path, task_file, f"teacher-{processes}", *options, processes=processes)
        losses.append(history(folder)["losses"])
        out = tmp_path / f"logits-{processes}.tsv"
        arguments = predict_arguments(tmp_path, tables["train"], out)
        if processes == 2:  # a killed pass goes on
            kill_when(lambda: (tmp_path / ".logits-2.tsv.logits.partial/done.npy").exists(), arguments, tmp_path, 2)
        done = run_script(tmp_path, *arguments, processes=processes)  # type: ignore[arg-type]
        assert done.returncode == 0, done.stderr
        with out.open() as file:
            predicted.append(list(csv.DictReader(file, delimiter="\t")))
        place = tmp_path / f"student-{processes}"
        done = run_script(
            tmp_path, "experiments/distill.py", "--task", task_file, "--method",
            ROOT / "experiments/methods/vanilla.yaml", "--logits", tmp_path / "logits-1.tsv", "--domain", "books",
            "--task.student", "{layers: 2, of: pretrained}", "--out", place, processes=processes,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        students.append(history(place)["prediction"]["losses"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=TOLERANCE)
    np.testing.assert_allclose(students[1], students[0], rtol=TOLERANCE)
    assert [row["guid"] for row in predicted[1]] == [row["guid"] for row in read_rows(tables["train"])]
    for one, two in zip(*predicted, strict=True):
        assert float(one["logit.positive"]) == pytest.approx(float(two["logit.positive"]), rel=1e-4, abs=1e-5)


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
    from safetensors import safe_open

    try:
        with safe_open(checkpoint, "pt") as file:
            return json.loads(file.metadata()["progress"])["step"]
    except (OSError, RuntimeError):  # not there yet, or replaced while safetensors, which opens it twice, was reading
        return 0


def test_killed_runs_end_like_the_run_that_was_never_killed(tmp_path: Path, task_file: Path) -> None:
    """With dropout, and killed at several moments: in an epoch, between epochs, between stages, in stage 2."""
    every = ("--task.training.checkpoint_seconds", "0")
    config = tmp_path / "encoder" / "config.json"
    config.write_text(config.read_text().replace('"hidden_dropout_prob": 0.0', '"hidden_dropout_prob": 0.2'))
    calm = teacher(tmp_path, task_file, "calm")
    calm_student = student(tmp_path, task_file, calm, "calm")

    killed = tmp_path / "killed" / "teacher"
    arguments: list[object] = [
        "experiments/train_teacher.py", "--task", task_file, "--out", killed,
        "--allow_weak", "true", *every,
    ]  # fmt: skip
    checkpoint = tmp_path / "killed/.teacher.scratch/training/checkpoint.safetensors"
    kills = sum(kill_when(lambda at=at: step_of(checkpoint) >= at, arguments, tmp_path) for at in (3, 7, 16))
    assert kills == 3
    assert not killed.exists()
    assert history(teacher(tmp_path, task_file, "killed", *every)) == history(calm)

    partial = tmp_path / "killed/.student.scratch"
    arguments = [*distill_arguments(task_file, killed, tmp_path / "killed/student"), *every]
    moments = [
        lambda: step_of(partial / "training-intermediate/checkpoint.safetensors") >= 2,
        lambda: step_of(partial / "training-intermediate/checkpoint.safetensors") >= 6,
        lambda: step_of(partial / "training-prediction/checkpoint.safetensors") >= 4,
    ]
    assert sum(kill_when(moment, arguments, tmp_path) for moment in moments) == 3
    found = student(tmp_path, task_file, killed, "killed", *every)
    assert history(found) == history(calm_student)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (found, calm_student))
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_two_killed_processes_end_like_two_that_were_not(tmp_path: Path, task_file: Path) -> None:
    every = ("--task.training.checkpoint_seconds", "0")
    calm = teacher(tmp_path, task_file, "calm", processes=2)
    killed = tmp_path / "killed" / "teacher"
    arguments: list[object] = [
        "experiments/train_teacher.py", "--task", task_file, "--out", killed, "--allow_weak", "true", *every
    ]  # fmt: skip
    checkpoint = tmp_path / "killed/.teacher.scratch/training/checkpoint.safetensors"
    assert kill_when(lambda: step_of(checkpoint) >= 9, arguments, tmp_path, processes=2)
    assert history(teacher(tmp_path, task_file, "killed", *every, processes=2)) == history(calm)


def test_a_killed_embedding_pass_goes_on(tmp_path: Path, task_file: Path, tables: dict[str, Path]) -> None:
    out = tmp_path / "embeddings"
    arguments: list[object] = [
        "data_prep/extract_embeddings.py", "--model", tmp_path / "encoder", "--table", tables["train"], "--out", out,
        "--max_length", 32,
    ]  # fmt: skip
    kill_when(lambda: (tmp_path / "embeddings.partial/done.npy").exists(), arguments, tmp_path)
    done = run_script(tmp_path, *arguments)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert np.load(out / "done.npy").all()
    assert (np.abs(np.load(out / "values.npy")).sum(1) > 0).all()


def test_a_killed_sharded_run_goes_on(tmp_path: Path, task_file: Path) -> None:
    options = ("--task.training.sharded", "true", "--task.training.checkpoint_seconds", "0")
    calm = history(teacher(tmp_path, task_file, "calm"))
    killed = tmp_path / "killed/teacher"
    arguments: list[object] = [
        "experiments/train_teacher.py", "--task", task_file, "--out", killed, "--allow_weak", "true", *options,
    ]  # fmt: skip
    checkpoint = tmp_path / "killed/.teacher.scratch/training/checkpoint.safetensors"
    assert kill_when(lambda: step_of(checkpoint) >= 9, arguments, tmp_path, processes=2)
    found = history(teacher(tmp_path, task_file, "killed", *options, processes=2))
    np.testing.assert_allclose(found["losses"], calm["losses"], rtol=TOLERANCE)
    assert [epoch["dev"] for epoch in found["epochs"]] == [epoch["dev"] for epoch in calm["epochs"]]
