"""Errors that a user can fix: each message names the value, the place and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Invalid input, found before any long work. Scripts print the message without a traceback and exit with 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name, e.g. ``"; did you mean 'books'?"``; empty if no known name is similar."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""
