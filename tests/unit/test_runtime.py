"""How a process starts: its threads, and what it refuses."""

import os
from types import SimpleNamespace

import pytest
import torch

from metakd.errors import InputError
from metakd.training.runtime import on_one_machine, start
from metakd.training.tuning import share_cores


@pytest.mark.parametrize(
    ("processes", "threads", "wanted"),
    [("2", "1", "share"), ("2", "3", "left"), ("1", "1", "left"), ("999", "1", "one")],
)
def test_processes_share_the_cores(processes: str, threads: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        share_cores()
        assert torch.get_num_threads() == {"share": 4, "left": 2, "one": 1}[wanted]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("local", "wanted"), [(None, True), ("2", True), ("1", False)])
def test_processes_on_several_machines_are_told_apart(
    local: str | None, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert on_one_machine(SimpleNamespace(num_processes=2)) == wanted


def test_what_would_be_another_sharding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match=r"training\.sharded"):
        start("fp32")
