"""What the generated tests share: how many examples, damaged bytes and values, and the one thing that must hold."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from metakd.errors import InputError

LONG = int(os.environ.get("FUZZ", "0"))  # examples of each test on a long night; 0 for the fixed few of the suite
Place = tuple[str | int, ...]

odd_text = st.text(max_size=12) | st.sampled_from(
    ["", " ", "\0", "\r", '"', "'", "\t", "\u2028", "é", "=1+1", "null", "1e3"]
)
odd_number = st.integers(-3, 3) | st.sampled_from([0.5, -1.0, 1e30, 2**70, math.nan, math.inf, -math.inf])
odd_value = st.recursive(
    st.none() | st.booleans() | odd_number | odd_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=4,
)


def examples(count: int) -> Callable[[Any], Any]:
    """The settings of a test with so many examples in the suite."""
    return settings(
        max_examples=LONG or count, derandomize=not LONG, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def result_or_input_error(action: Callable[[], Any], place: Path) -> Any:
    """What an action gives, or None after an InputError that names the place; any other exception is a failure."""
    try:
        return action()
    except InputError as error:
        assert str(place) in str(error), f"{error} does not name {place}"
        return None


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with a byte changed, some bytes lost or put in, or cut short."""
    position = draw(st.integers(0, max(len(content) - 1, 0)))
    kind = draw(st.sampled_from(["change", "lose", "put in", "cut"]))
    if kind == "change":
        return content[:position] + bytes([draw(st.integers(0, 255))]) + content[position + 1 :]
    if kind == "lose":
        return content[:position] + content[position + draw(st.integers(1, 40)) :]
    if kind == "put in":
        return content[:position] + draw(st.binary(min_size=1, max_size=8)) + content[position:]
    return content[:position]


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """The places of all values inside lists and mappings."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*place, key)
        yield from places(inner, (*place, key))


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """A copy of lists and mappings with one to three values removed, or odd ones in their place."""
    content = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(content))
        if not found:
            break
        *path, key = draw(st.sampled_from(found))
        holder = content
        for step in path:
            holder = holder[step]
        if draw(st.booleans()):
            holder[key] = draw(odd_value)
        else:
            del holder[key]
    return content
