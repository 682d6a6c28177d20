"""From a script's `main` function to its command line. Errors that a user can mend come without a traceback."""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentError
from collections.abc import Callable

from jsonargparse import auto_cli

from metakd.errors import InputError
from metakd.settings_files import SettingsParser

CHATTY = ("httpx", "httpcore", "filelock", "datasets", "accelerate")


def run(main: Callable[..., None]) -> None:
    """Call `main` with the values of the command line; its annotations and docstring make the options.

    An error in the options or the input is printed alone, and the script ends with exit code 2.
    """
    rank = int(os.environ.get("RANK", "0"))
    start_logging(rank)
    try:
        auto_cli(main, as_positional=False, exit_on_error=False, parser_class=SettingsParser)
    except ArgumentError as error:
        sys.exit(fail(f"{error}\nAll options are explained by --help.", rank))
    except InputError as error:
        sys.exit(fail(str(error), rank))


def start_logging(rank: int) -> None:
    """Log to stderr; of several processes only the first logs, the others' warnings would repeat its own."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    if rank > 0:
        logging.getLogger().setLevel(logging.ERROR)


def fail(message: str, rank: int) -> int:
    """Print the error message and return the exit code for it."""
    print(f"error: {message}" if rank == 0 else f"error in process {rank}: {message}", file=sys.stderr)
    return 2
