"""Pieces of texts, cut at white space."""

from __future__ import annotations

import itertools
import re

WORD = re.compile(r"\S+")


def pieces(text: str, words: int) -> list[str]:
    """The text in order, cut at white space into equal pieces, one for each `words` words, rounded."""
    spans = [match.span() for match in WORD.finditer(text)]
    count = max(1, int(len(spans) / words + 0.5))
    ends = [len(spans) * i // count for i in range(count + 1)]
    return [text[spans[first][0] : spans[last - 1][1]] for first, last in itertools.pairwise(ends)]
