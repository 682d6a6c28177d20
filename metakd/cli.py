"""From a script's `main` function to its command line. Errors that a user can mend come without a traceback.

So do signals (Ctrl-C, SIGTERM) and errors of the disk, whichever library met them.
"""

from __future__ import annotations

import errno
import inspect
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeGuard, get_args

from jsonargparse import ActionConfigFile

from metakd import steps
from metakd.errors import FULL_DISK, InputError, Interrupted, chain, disk_error_number, shorten_message
from metakd.evaluation.text import printable
from metakd.ranges import check_value, type_hints
from metakd.settings_files import SettingsParser

CHATTY = ("httpx", "httpcore", "filelock", "datasets", "accelerate")
NO_BARS = ("HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS")
PEER_ENDED = re.compile("Connection (closed|reset) by peer")  # gloo
PATH_ERRORS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EPERM)
GO_ON = "the same command goes on from there"


def run(main: Callable[..., None]) -> None:
    """Call `main` with the values of the command line; its annotations and docstring make the options.

    An error in the options, the input or the disk is printed alone, and the script ends with exit code 2; after a
    signal with 128 and its number.
    """
    rank = int(os.environ.get("RANK", "0"))
    start_logging(rank)
    try:
        with signals_raise():
            call(main, rank)
    except Interrupted as interrupted:
        if rank == 0:
            name = "Ctrl-C" if interrupted.number == signal.SIGINT else signal.Signals(interrupted.number).name
            print(f"\nstopped by {name}; what is finished is kept, and {GO_ON}", file=sys.stderr)
        sys.exit(128 + interrupted.number)


def call(main: Callable[..., None], rank: int) -> None:
    """Call `main` with the values of the command line; end the script after an error that a user can mend."""
    values: dict[str, Any] = {}
    try:
        values = options(main)
        main(**values)
    except ArgumentError as error:
        sys.exit(fail(f"{error}\nAll options are explained by --help.", rank))
    except InputError as error:
        sys.exit(fail(str(error), rank))
    except Exception as error:
        message = disk_error(error, values.get("out"))
        if message is None and several_processes() and PEER_ENDED.search(str(error)):
            message = "another process ended before; its own message says why"
        if message is None:
            raise
        sys.exit(fail(message, rank))


def several_processes() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def options(main: Callable[..., None]) -> dict[str, Any]:
    """The arguments of `main` from the command line. Scripts that make steps also have --verify."""
    parser = SettingsParser(exit_on_error=False, description=(inspect.getdoc(main) or "").partition("\n\n")[0])
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with options.")
    hints = type_hints(main)
    named = named_settings(hints, sys.argv[1:])
    added = parser.add_function_arguments(main, as_group=False, as_positional=False, sub_configs=True, skip=set(named))
    for name, kind in named.items():
        parser.add_argument(f"--{name}", type=kind)
    makes_steps = "remake" in added
    if makes_steps:
        text = "compare the hashes of a finished output's files too, not their sizes alone"
        parser.add_argument("--verify", type=bool, default=False, help=text)
    values = parser.instantiate(parser.parse_args())
    steps.VERIFY = makes_steps and values.pop("verify")
    values.pop("config", None)
    for name, value in values.items():
        check_value(hints[name], value, name)
    return dict(values.items())


def named_settings(hints: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, type]:
    """Optional tasks and methods that the arguments name; with null among its types, a part would not take null."""
    words = {re.split(r"[.=]", argument.removeprefix("--"))[0] for argument in arguments if argument.startswith("--")}
    kinds = {
        name: [kind for kind in get_args(hint) if isinstance(kind, type) and is_dataclass(kind)]
        for name, hint in hints.items()
    }
    return {name: found[0] for name, found in kinds.items() if found and name in words}


@contextmanager
def signals_raise() -> Iterator[None]:
    """Within the block Ctrl-C and SIGTERM raise `Interrupted`, once: cleaning up is not interrupted again."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {each: handler for each in numbers if (handler := signal.getsignal(each)) != signal.SIG_IGN}
    for each in before:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def start_logging(rank: int) -> None:
    """Log to stderr; of several processes only the first logs, the others' warnings would repeat its own.

    Progress bars are for a terminal: in a file they would be thousands of lines.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    if rank > 0:
        logging.getLogger().setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if rank > 0 or not sys.stderr.isatty():
        for name in NO_BARS:
            os.environ.setdefault(name, "1")
        os.environ.setdefault("PIP_PROGRESS_BAR", "off")


class LineFormatter(logging.Formatter):
    """Messages without control characters, which a terminal would obey; they may come with names from a file."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def printable_lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))


def fail(message: str, rank: int) -> int:
    """Print the error message and return the exit code for it."""
    message = printable_lines(shorten_message(message))
    print(f"error: {message}" if rank == 0 else f"error in process {rank}: {message}", file=sys.stderr)
    return 2


def disk_error(error: BaseException, out: Path | None) -> str | None:
    """What a full or write-protected disk did, where, and the remedy; None for any other error.

    Libraries wrap the system's error, or keep only its text or number.

    Args:
        out: the script's output.
    """
    causes = list(chain(error))
    number = next((number for cause in causes if (number := disk_error_number(cause)) is not None), None)
    if number is None:
        return f"{error.filename}: {error.strerror}; choose another path" if is_about_a_path(error) else None
    path = next((cause.filename for cause in causes if isinstance(cause, OSError) and cause.filename), None)
    place = f"{path}" if path else f"perhaps {fullest_place(out)}"
    caches = "HF_HOME, HF_DATASETS_CACHE and TMPDIR name other places for caches"
    remedy = f"free some space, then {GO_ON}" if number in FULL_DISK else "allow it there, or choose another path"
    return f"{place}: {os.strerror(number)}; {remedy} ({caches})"


def is_about_a_path(error: BaseException) -> TypeGuard[OSError]:
    """Whether the system refuses a path that it was given, e.g. a name that is too long."""
    return isinstance(error, OSError) and error.filename is not None and error.errno in PATH_ERRORS


def fullest_place(out: Path | None) -> str:
    """Of the folders that a library may write to without naming them, the one with the least free space."""
    cache = Path(os.environ.get("HF_DATASETS_CACHE") or os.environ.get("HF_HOME") or Path.home() / ".cache")
    places = [Path(out or ".").absolute(), cache.absolute(), Path(tempfile.gettempdir())]
    existing = {place: next(path for path in (place, *place.parents) if path.exists()) for place in places}
    return str(min(places, key=lambda place: shutil.disk_usage(existing[place]).free))
