"""Which values a setting may have: stated in its type, checked by one function.

    epochs: Annotated[int, Range(1)]

`check_fields` checks all fields of a dataclass, `check_value` one value, e.g. an argument of a script. A field whose
type says nothing but `int` or `float` must still be a finite number, and null is refused unless the type allows it.
"""

from __future__ import annotations

import functools
import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from metakd.errors import InputError

LARGEST_WHOLE = 2**63 - 1  # what torch, numpy and Arrow take for a whole number


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may be.

    Args:
        low, high: the ends; None is open.
        above, below: whether the end itself is left out.
    """

    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
            return False
        if not math.isfinite(value):
            return False
        if self.low is not None and (value < self.low or (self.above and value == self.low)):
            return False
        return self.high is None or value < self.high or (not self.below and value == self.high)

    def __str__(self) -> str:
        low, high = (None if end is None else f"{end:g}" for end in (self.low, self.high))
        if low is not None and high is not None and not self.above:
            return f"from {low} to {'below ' * self.below}{high}"
        ends = []
        if low is not None:
            ends.append(f"above {low}" if self.above else f"at least {low}")
        if high is not None:
            ends.append(f"below {high}" if self.below else f"at most {high}")
        return " and ".join(ends) or "finite"


Count = Annotated[int, Range(1)]
NotNegativeCount = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
BelowOne = Annotated[float, Range(0, 1, below=True)]


def check_fields(record: Any, prefix: str) -> None:
    """Check every field of a dataclass against its type, and those of dataclasses in it.

    Args:
        prefix: goes before the field's name in messages, e.g. "training.".

    Raises:
        InputError: a value is null, no number, not finite or out of range; names field, value and range.
    """
    hints = type_hints(type(record))
    for field in fields(record):
        value = getattr(record, field.name)
        check_value(hints[field.name], value, f"{prefix}{field.name}")
        parts = value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]
        for part in filter(is_dataclass, parts):
            check_fields(part, f"{prefix}{field.name}.")


def check_value(hint: Any, value: Any, place: str) -> None:
    """Check one value against its type; types other than numbers, lists of numbers and null are not looked at."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None:
        if NoneType not in options and Any not in options:
            raise InputError(f"{place} is null; give it a value, or leave it out if it has a default")
    elif isinstance(value, list):
        for option in options:
            if get_origin(option) is list:
                _check_list(get_args(option)[0], value, place)
    else:
        for option in options:
            kind, *marks = get_args(option) if get_origin(option) is Annotated else (option,)
            if kind in (int, float) and (isinstance(value, int | float) or len(options) == 1):
                _check_number(kind, next((mark for mark in marks if isinstance(mark, Range)), Range()), value, place)


def _check_list(hint: Any, values: list[Any], place: str) -> None:
    if not values and get_origin(hint) is Annotated:
        raise InputError(f"{place} is []; it needs at least one number")
    for value in values:
        check_value(hint, value, f"{place} is {reprlib.repr(values)}: an entry")


def _check_number(kind: type, allowed: Range, value: Any, place: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind is int and not isinstance(value, int)):
        raise InputError(f"{place} is {reprlib.repr(value)}; it must be a {'whole ' * (kind is int)}number")
    if not allowed.holds(value):
        most = f" (and at most {LARGEST_WHOLE})" * (allowed.high is None and abs(value) > LARGEST_WHOLE)
        raise InputError(f"{place} is {reprlib.repr(value)}; it must be {allowed}{most}")


type_hints: Callable[[Any], dict[str, Any]] = functools.cache(functools.partial(get_type_hints, include_extras=True))
