"""Text from data, made fit for one line of a report. Escaping is left to those who write the file."""

from __future__ import annotations

import unicodedata

LONGEST_CELL = 1000  # letters of a text in a report
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, line and paragraph separators
NOT_IN_XML = ("\ufffe", "\uffff")


def shorten(text: str, length: int) -> str:
    """At most `length` letters of a text, on one line; an ellipsis says that there is more.

    Control characters become spaces: XML cannot hold them, and a terminal would obey them.
    """
    start = text[: 4 * length]  # a row may have 100 kB
    line = " ".join(printable(start).split())
    if len(line) <= length and len(start) == len(text):
        return line
    return line[: length - 1].rstrip() + "…"


def printable(text: str) -> str:
    """The text with a space for each control character."""
    return "".join(" " if _unprintable(letter) else letter for letter in text)


def _unprintable(letter: str) -> bool:
    return unicodedata.category(letter) in UNPRINTABLE or letter in NOT_IN_XML
