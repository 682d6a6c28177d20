import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from metakd import steps
from metakd.cli import run
from metakd.errors import InputError, name_list
from tests.conftest import ROOT, wait_until


@dataclass
class Settings:
    """Settings of a file.

    Args:
        epochs: how often each row is seen.
        share: of the rows that are seen.
    """

    epochs: int = 1
    share: float | None = 0.5

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
    ("arguments", "printed"),
    [
        ([], "None"),
        (["--task", "task.yaml"], "3 0.5"),
        (["--task", "task.yaml", "--task.share", "null"], "3 None"),
        (["--task", "task.yaml", "--task.share=null", "--task.epochs=4"], "4 None"),
        (["--task.share", "0.1"], "1 0.1"),
        (["--config", "config.yaml"], "2 None"),
        (["--config", "config.yaml", "--task.epochs", "4"], "4 None"),
    ],
)
def test_settings_that_may_be_left_out_can_be_changed_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    printed: str,
) -> None:
    def main(task: Settings | None = None) -> None:
        print(task and f"{task.epochs} {task.share}")

    monkeypatch.chdir(tmp_path)
    Path("task.yaml").write_text("epochs: 3\n")
    Path("config.yaml").write_text("task: {epochs: 2, share: null}\n")
    monkeypatch.setattr("sys.argv", ["script.py", *arguments])
    run(main)
    assert capsys.readouterr().out == f"{printed}\n"


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


def raising(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(errno.ENOSPC, "full", "/data/out"), ["/data/out: No space left on device", "free some space"]),
        (OSError(errno.EDQUOT, "quota", "/home/a"), ["/home/a: Disk quota exceeded", "free some space"]),
        (OSError(errno.EROFS, "no", "/mnt/a"), ["/mnt/a: Read-only file system", "choose another path"]),
        (PermissionError(errno.EACCES, "no", "/root/a"), ["/root/a: Permission denied", "choose another path"]),
        # As NumPy, datasets and libraries in Rust put it.
        (OSError("4096 requested and 512 written"), ["No space left on device", "perhaps /"]),
        (OSError("Not enough disk space. Needed: Unknown size"), ["No space left on device", "perhaps /"]),
        (RuntimeError("I/O error: No space left on device (os error 28)"), ["No space left on device", "perhaps /"]),
    ],
)
def test_an_error_of_the_disk_names_path_and_remedy(
    error: Exception, named: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["script.py"])
    wrapper = RuntimeError("a library's own words")
    wrapper.__cause__ = error
    for raised in (error, wrapper):
        with pytest.raises(SystemExit) as end:
            run(raising(raised))
        message = capsys.readouterr().err
        assert end.value.code == 2 and message.startswith("error: ") and message.count("\n") == 1
        assert all(part in message for part in [*named, "HF_DATASETS_CACHE"]), message


def test_a_process_whose_peer_ended_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["script.py"])
    error = RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:29109.")
    with pytest.raises(RuntimeError):
        run(raising(error))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        run(raising(error))
    assert capsys.readouterr().err == "error: another process ended before; its own message says why\n"


def test_any_other_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["script.py"])
    for error in (RuntimeError("a bug"), FileNotFoundError(errno.ENOENT, "gone", "x")):
        with pytest.raises(type(error)):
            run(raising(error))


def test_messages_are_short_and_cannot_steer_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["script.py"])
    with pytest.raises(SystemExit):
        run(raising(InputError(f"\x1b[31mlabel\r 'x' is not among {[str(i) for i in range(10_000)]}; correct it")))
    message = capsys.readouterr().err
    assert len(message) < 2100 and "label" in message and message.endswith("correct it\n")
    assert "\x1b" not in message and "\r" not in message
    assert name_list(["a", "b" * 100]) == f"['a', '{'b' * 60}…']"
    assert (
        name_list([str(i) for i in range(10_000)]) == f"[{', '.join(repr(str(i)) for i in range(10))}, and 9990 more]"
    )


WAITING = """
import sys, time
from pathlib import Path
from metakd.cli import run

def main() -> None:
    try:
        Path(sys.argv[0]).with_suffix(".ready").touch()
        time.sleep(60)
    except Exception:
        sys.exit("a library caught it")
    finally:
        time.sleep(0.5)  # a second signal does not interrupt cleaning up
        Path(sys.argv[0]).with_suffix(".clean").touch()

run(main)
"""


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_signal_ends_a_script_with_one_line(tmp_path: Path, number: int, code: int, name: str, rank: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(WAITING)
    process = subprocess.Popen(
        [sys.executable, script],
        env={**os.environ, "RANK": rank},
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    wait_until(script.with_suffix(".ready").exists)
    process.send_signal(number)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=30)[1]
    assert process.returncode == code and script.with_suffix(".clean").exists()
    expected = f"stopped by {name}; what is finished is kept, and the same command goes on from there"
    assert message.strip() == (expected if rank == "0" else "")


def test_scripts_that_make_steps_can_verify_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    verified = []

    def main(out: Path, remake: bool = False) -> None:
        """Make a step.

        Args:
            out: a folder.
            remake: anew.
        """
        verified.append(steps.VERIFY)

    for arguments in ([], ["--verify", "true"], ["--verify", "false"]):
        monkeypatch.setattr("sys.argv", ["script.py", "--out", "o", *arguments])
        run(main)
    assert verified == [False, True, False]
