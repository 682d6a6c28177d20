"""How a process starts: its threads, its seeds, its trackers, and what it refuses."""

import os
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from metakd.config import Training
from metakd.cpu.tuning import share_cores
from metakd.data.encoding import encode
from metakd.data.tables import TRAINING
from metakd.errors import InputError
from metakd.training import runtime
from metakd.training.loop import fit
from metakd.training.runtime import on_one_machine, seed_everything, start, start_training
from tests.conftest import DOMAINS, LABELS, make_teacher_job, make_tokenizer


@pytest.mark.parametrize(
    ("processes", "threads", "expected"),
    [("2", "1", "share"), ("2", "3", "unchanged"), ("1", "1", "unchanged"), ("999", "1", "one")],
)
def test_processes_share_the_cores(
    processes: str, threads: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        share_cores()
        assert torch.get_num_threads() == {"share": 4, "unchanged": 2, "one": 1}[expected]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("local", "expected"), [(None, True), ("2", True), ("1", False)])
def test_processes_on_several_machines_are_told_apart(
    local: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert on_one_machine(SimpleNamespace(num_processes=2)) == expected


@pytest.mark.parametrize(("setting", "calls"), [("auto", 1), ("off", 0)])
def test_a_process_is_tuned_unless_tuning_is_off(setting: str, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[None] = []
    monkeypatch.setattr(runtime, "tune_process", lambda: called.append(None))
    start("fp32", setting)
    assert len(called) == calls


def test_equal_seeds_give_equal_numbers_whatever_was_drawn_before() -> None:
    draws = []
    for numbers in ((1, 2), (1, 2), (2, 1), (1, 3)):
        torch.rand(len(draws))
        seed_everything(*numbers)
        draws.append(torch.rand(4).tolist())
    assert draws[0] == draws[1] and len({tuple(values) for values in draws}) == 3


def test_sharded_training_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="ACCELERATE_USE_FSDP is set, but models are not sharded; unset it"):
        start("fp32")


def test_a_tracker_that_is_unknown_or_not_installed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"task\.training\.log_with is \['tensorbord'\]"):
        start_training(Training(precision="fp32", log_with=["tensorbord"]), tmp_path)


@pytest.mark.parametrize(
    ("log_with", "installed", "names"),
    [("auto", True, ["tensorboard"]), ("auto", False, []), ([], True, []), (["tensorboard"], True, ["tensorboard"])],
)
def test_tensorboard_is_used_where_it_is_installed(
    log_with: Any, installed: bool, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "find_spec", lambda name: object() if installed else None)
    accelerator = start_training(Training(precision="fp32", log_with=log_with), tmp_path)
    assert [tracker.value for tracker in accelerator.log_with] == names


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """The values in TensorBoard's event files, by tag and step; a record is: length, checksum, event, checksum."""
    scalars: dict[str, dict[int, float]] = {}
    for file in folder.rglob("events.*"):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            for value in event.summary.value:
                scalars.setdefault(value.tag, {})[event.step] = value.simple_value
            data = data[16 + length :]
    return scalars


def test_losses_learning_rates_and_dev_scores_reach_the_tracker(tables: dict[str, Path], tmp_path: Path) -> None:
    rows = encode(tables["train"], make_tokenizer(), 32, LABELS, DOMAINS, TRAINING)  # 48 rows: 3 steps an epoch
    training = Training(batch_size=16, warmup=0.5, precision="fp32", log_with=["tensorboard"])
    accelerator = start_training(training, tmp_path / "logs")
    accelerator.init_trackers("teacher")
    progress = fit(make_teacher_job(rows), accelerator, 2, 6e-3, training, tmp_path / "training", "teacher")
    accelerator.end_training()
    scalars = read_scalars(tmp_path / "logs")
    dev = {f"teacher/dev/{name}" for name in ("score", *DOMAINS)}
    assert set(scalars) == {"teacher/label", "teacher/domain", "teacher/learning_rate"} | dev
    steps = range(1, 7)
    objective = [scalars["teacher/label"][step] + 0.5 * scalars["teacher/domain"][step] for step in steps]
    assert objective == pytest.approx(progress.losses, rel=1e-5)
    assert [scalars["teacher/learning_rate"][step] for step in steps] == pytest.approx(
        [2e-3, 4e-3, 6e-3, 6e-3, 4e-3, 2e-3]
    )
    for tag in dev:
        scores = [record["dev"][tag.removeprefix("teacher/dev/")] for record in progress.epochs]
        assert [scalars[tag][step] for step in (3, 6)] == pytest.approx(scores)


def test_variables_of_accelerate_change_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    accelerator = start("fp32")
    assert accelerator.gradient_accumulation_steps == 1 and accelerator.mixed_precision == "no"
    assert "ACCELERATE_GRADIENT_ACCUMULATION_STEPS, ACCELERATE_MIXED_PRECISION have no effect" in caplog.text
