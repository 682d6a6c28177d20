"""From a script's `main` function to its command line; errors a user can mend come without a traceback."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable

from jsonargparse import ArgumentParser, auto_cli

from metakd.errors import InputError, nearest

# The ways in which the parser names a key that it does not know.
UNKNOWN = re.compile(
    r"Option '([\w.]+)' is not accepted|does not accept option '([\w.]+)'|unrecognized arguments: --([\w.]+)"
)


class Parser(ArgumentParser):
    """A parser whose error names the nearest known key."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        unknown = [key for match in UNKNOWN.findall(message) for key in match if key]
        known = {part for action in self._actions for part in action.dest.split(".")}
        known |= nested_fields()
        hints = [nearest(key.split(".")[-1], known) for key in unknown]
        super().error(message + "".join(hints), ex)


def nested_fields() -> set[str]:
    """Names of all settings; those inside lists are no options of their own, so the parser lacks them."""
    from dataclasses import fields

    from metakd import config, methods

    types = (config.Task, config.Training, config.StudentFromTeacher, config.MetaTeacher)
    return {f.name for t in (*types, methods.Method, methods.Stage, methods.Term) for f in fields(t)}


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
