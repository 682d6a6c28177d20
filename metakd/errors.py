"""Errors that a user can fix: each message names the value, the place and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

SHOWN = 10  # names of a list in a message
LONGEST_NAME = 60  # letters of such a name
LONGEST_MESSAGE = 2000  # letters
LONGEST_COMPARED = 200  # letters of a name that is compared with others; the time grows with their square


class InputError(Exception):
    """Invalid input, found before any long work. Scripts print the message without a traceback and exit with 2."""


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
