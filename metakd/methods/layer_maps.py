"""Which student layer learns from which teacher layer. Layer 0 is the embedding layer's output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from metakd.errors import InputError

LayerMap = Literal["uniform", "last", "skip", "final"] | list[list[int]]
Pairs = list[tuple[int, int]]


def layer_ratio(teacher_layers: int, student_layers: int) -> int:
    """Teacher layers per student layer.

    Raises:
        InputError: the student's depth does not divide the teacher's.
    """
    if student_layers < 1 or teacher_layers % student_layers:
        fitting = [n for n in range(1, teacher_layers + 1) if teacher_layers % n == 0]
        raise InputError(
            f"a uniform layer map needs a student depth that divides the teacher's: {student_layers} does not "
            f"divide {teacher_layers}. Choose {', '.join(map(str, fitting))} layers, or write the map in the method "
            "file as layers: [[teacher, student], ...]"
        )
    return teacher_layers // student_layers


def uniform(teacher_layers: int, student_layers: int, first: int) -> Pairs:
    """Student layer j <- teacher layer j * Lt / Ls, as (teacher, student) pairs (TinyBERT, section 3.1).

    Args:
        first: 0 with the embedding layer, 1 without.
    """
    step = layer_ratio(teacher_layers, student_layers)
    return [(j * step, j) for j in range(first, student_layers + 1)]


def skip(teacher_layers: int, student_layers: int) -> Pairs:
    """PKD-Skip: the uniform map without the last layer, which the logits already train (Patient KD, section 3.2)."""
    return uniform(teacher_layers, student_layers, first=1)[:-1]


def last(teacher_layers: int, student_layers: int) -> Pairs:
    """PKD-Last: student layers 1 to Ls-1 <- the layers below the teacher's last one (Patient KD, section 3.2)."""
    return [(teacher_layers - student_layers + j, j) for j in range(1, student_layers)]


def resolve(
    layers: LayerMap, teacher_layers: int, student_layers: int, first: int = 1, copied: Sequence[int] | None = None
) -> Pairs:
    """The (teacher, student) pairs of a term, counted from 1.

    Args:
        first: the lowest layer that may be named: 0 if the embedding layer counts.
        copied: the teacher's layers that the student was cut from, which "uniform" compares it with.

    Raises:
        InputError: a layer that does not exist, or a map that leaves none.
    """
    if isinstance(layers, str):
        if layers == "uniform" and copied is not None:
            return list(zip(copied, range(1, student_layers + 1), strict=True))
        if layers == "uniform":
            return uniform(teacher_layers, student_layers, first=1)
        if layers == "final":
            return [(teacher_layers, student_layers)]
        pairs = skip(teacher_layers, student_layers) if layers == "skip" else last(teacher_layers, student_layers)
        if not pairs or pairs[0][0] < 1:
            raise InputError(
                f"layers: {layers} maps layers below the last one; teacher and student have {teacher_layers} and "
                f"{student_layers} layers, which leaves none. Use layers: final"
            )
        return pairs
    pairs = [(pair[0], pair[1]) for pair in layers if len(pair) == 2]
    if not pairs or len(pairs) != len(layers):
        raise InputError(f"layers: {layers} is not a list of [teacher, student] pairs")
    for t, s in pairs:
        if not (first <= t <= teacher_layers and first <= s <= student_layers):
            raise InputError(
                f"layers: [{t}, {s}] is out of range; the teacher has layers {first} to {teacher_layers}, the student "
                f"{first} to {student_layers}"
            )
    return pairs
