import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from metakd.cli import run
from metakd.errors import InputError


@dataclass
class Settings:
    """Settings of a file.

    Args:
        epochs: how often each row is seen.
    """

    epochs: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(f"epochs is {self.epochs}; it must be at least 1")


def main(task: Settings, out: Path, kind: Literal["meta", "mix"] = "meta") -> None:
    """Write the settings.

    Args:
        task: task file.
        out: text file.
        kind: which kind.
    """
    if out.exists():
        raise InputError(f"output {out} exists")
    out.write_text(f"{task.epochs} {kind}")


Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Call]:
    """Calls `main` in an empty folder and returns the exit code and what it printed on stderr."""
    root, level = logging.getLogger(), logging.getLogger().level
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.yaml").write_text("epochs: 3\n")

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["script.py", *arguments])
        code = 0
        try:
            run(main)
        except SystemExit as end:
            assert isinstance(end.code, int)
            code = end.code
        return code, capsys.readouterr().err

    yield call
    root.setLevel(level)


def test_options_reach_main(call: Call) -> None:
    assert call("--task", "task.yaml", "--out", "out.txt", "--kind", "mix") == (0, "")
    assert Path("out.txt").read_text() == "3 mix"
    assert call("--task", "task.yaml", "--task.epochs", "5", "--out", "other.txt") == (0, "")
    assert Path("other.txt").read_text() == "5 meta"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--task", "task.yaml", "--out", "o", "--kid", "mix"], ["--kid"]),
        (["--task", "task.yaml", "--out", "o", "--kind", "mtl"], ["kind", "mtl", "'meta'", "'mix'"]),
        (["--task", "task.yaml", "--out", "o", "--task.epochs", "many"], ["task.epochs", "many", "int"]),
        (["--task", "task.yaml", "--out", "o", "--task.seed", "2"], ["--task.seed"]),
        (["--task", "tsk.yaml", "--out", "o"], ["tsk.yaml"]),
        (["--task", "wrong.yaml", "--out", "o"], ["epoch"]),
        (["--task", "task.yaml"], ["out"]),
    ],
)
def test_a_wrong_option_is_named_in_a_short_message(call: Call, arguments: list[str], named: list[str]) -> None:
    Path("wrong.yaml").write_text("epoch: 2\n")
    code, message = call(*arguments)
    assert code == 2
    first, *_, last = message.splitlines()
    assert first.startswith("error: ") and "--help" in last
    assert all(part in message for part in named), message
    assert "usage:" not in message and "Traceback" not in message
    assert not Path("o").exists()


def test_an_input_error_is_printed_without_traceback(call: Call) -> None:
    Path("out.txt").write_text("mine")
    assert call("--task", "task.yaml", "--out", "out.txt") == (2, "error: output out.txt exists\n")
    assert Path("out.txt").read_text() == "mine"
    # Raised while the settings are read.
    code, message = call("--task", "task.yaml", "--task.epochs", "0", "--out", "o")
    assert (code, message) == (2, "error: task.yaml: epochs is 0; it must be at least 1\n")


def test_one_process_of_several_logs_and_each_one_names_itself_in_errors(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("out.txt").write_text("mine")
    monkeypatch.setenv("RANK", "1")
    assert call("--task", "task.yaml", "--out", "out.txt") == (2, "error in process 1: output out.txt exists\n")
    assert not logging.getLogger("metakd").isEnabledFor(logging.WARNING)
    assert logging.getLogger("metakd").isEnabledFor(logging.ERROR)
