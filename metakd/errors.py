"""Errors that a user can fix: each message names the value, the place and the remedy."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Collection, Iterable, Iterator

SHOWN = 10  # names of a list in a message
LONGEST_NAME = 60  # letters of such a name
LONGEST_MESSAGE = 2000  # letters
LONGEST_COMPARED = 200  # letters of a name that is compared with others; the time grows with their square
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
DISK_ERRORS = (*FULL_DISK, errno.EROFS, errno.EACCES)


class InputError(Exception):
    """Invalid input, found before any long work. Scripts print the message without a traceback and exit with 2."""


class Interrupted(BaseException):
    """A signal asked the process to end. No library catches it as an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name, e.g. ``"; did you mean 'books'?"``; empty if no known name is similar."""
    short = [other for other in known if len(other) <= LONGEST_COMPARED]
    match = difflib.get_close_matches(name[:LONGEST_COMPARED], short, n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def name_list(names: Collection[str]) -> str:
    """Names for a message, e.g. ``"['books', 'films']"``; of many the first, of a long one the beginning."""
    first = [name for name, _ in zip(names, range(SHOWN), strict=False)]
    listed = ", ".join(repr(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…") for name in first)
    return f"[{listed}]" if len(names) <= SHOWN else f"[{listed}, and {len(names) - SHOWN} more]"


def shorten_message(message: str) -> str:
    """A message with the middle cut out if it is very long: its beginning says what is wrong, its end what to do."""
    half = LONGEST_MESSAGE // 2
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:half]} […] {message[-half:]}"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def disk_error_number(error: BaseException) -> int | None:
    """The number of a disk error: the system's own, or that in the text of a library written in another language."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return error.errno
    if isinstance(error, OSError) and re.fullmatch(r"\d+ requested and \d+ written", str(error)):  # NumPy
        return errno.ENOSPC
    texts = {os.strerror(number): number for number in DISK_ERRORS}
    texts["Not enough disk space"] = errno.ENOSPC  # datasets
    return next((number for text, number in texts.items() if text in str(error)), None)
