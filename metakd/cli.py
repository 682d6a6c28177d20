"""From a script's `main` function to its command line; errors a user can mend come without a traceback."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path

from jsonargparse import ArgumentParser, auto_cli

from metakd.errors import InputError, nearest

# The ways in which the parser names a key or a value that it does not know, and a file that it cannot read.
UNKNOWN = re.compile(
    r"Option '([\w.]+)' is not accepted|does not accept option '([\w.]+)'|unrecognized arguments: --([\w.]+)"
)
CHOICE = re.compile(r"Literal\[(.+?)\]\. Got value: ([\w.-]+)")
FILE = re.compile(r"Unable to load config [\"']([^\"']+)[\"']")


class Parser(ArgumentParser):
    """A parser that answers with the error alone, and with what was probably meant."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        if not self.exit_on_error:  # one of several types that a value may have is tried
            super().error(message, ex)
        unknown = [key for match in UNKNOWN.findall(message) for key in match if key]
        known = {part for action in self._actions for part in action.dest.split(".")} | nested_fields()
        hints = [nearest(key.split(".")[-1], known - {key.split(".")[-1]}) for key in unknown]
        hints += [nearest(value, re.findall(r"'([^']+)'", choices)) for choices, value in CHOICE.findall(message)]
        for path in map(Path, FILE.findall(message)[-1:]):
            if not path.is_file():
                files = [*path.parent.glob("*.yaml"), *Path("experiments").glob("*/*.yaml")]
                same = [str(file) for file in files if file.stem == path.stem]
                hint = nearest(same[0], same) if same else nearest(str(path), map(str, files))
                hints.append(f": no such file{hint}")
        self.exit(fail(message + "".join(dict.fromkeys(hints)) + "\nAll options are explained by --help."))


def nested_fields() -> set[str]:
    """Names of all settings; those inside lists are no options of their own, so the parser lacks them."""
    from metakd import config, methods

    kinds = [kind for module in (config, methods) for kind in vars(module).values() if is_dataclass(kind)]
    return {f.name for kind in kinds for f in fields(kind)}


def run(main: Callable[..., None]) -> None:
    """Call `main` with what the command line says; its annotations and docstring make the options."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    for chatty in ("httpx", "httpcore", "filelock", "datasets", "accelerate"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if int(os.environ.get("RANK", "0")) > 0:  # one process of several speaks
        logging.getLogger().setLevel(logging.WARNING)
    try:
        auto_cli(main, as_positional=False, parser_class=Parser)
    except InputError as error:
        sys.exit(fail(str(error)))


def fail(message: str) -> int:
    rank = int(os.environ.get("RANK", "0"))
    print(f"error: {message}" if rank == 0 else f"error in process {rank}: {message}", file=sys.stderr)
    return 2
