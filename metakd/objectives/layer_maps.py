"""Which student layer learns from which teacher layer. Layer 0 is the embedding layer's output."""

from __future__ import annotations

from typing import Literal

from metakd.errors import InputError

LayerMap = Literal["uniform", "last"] | list[list[int]]
Pairs = list[tuple[int, int]]


def uniform(teacher_layers: int, student_layers: int, first: int) -> Pairs:
    """Student layer j <- teacher layer j * Lt / Ls, as (teacher, student) pairs (TinyBERT, section 3.1).

    Args:
        first: 0 with the embedding layer, 1 without.

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
    step = teacher_layers // student_layers
    return [(j * step, j) for j in range(first, student_layers + 1)]


def resolve(layers: LayerMap, teacher_layers: int, student_layers: int) -> Pairs:
    """The (teacher, student) pairs of a term, counted from 1.

    Raises:
        InputError: a layer that does not exist.
    """
    if layers == "uniform":
        return uniform(teacher_layers, student_layers, first=1)
    if layers == "last":
        return [(teacher_layers, student_layers)]
    assert not isinstance(layers, str)
    pairs = [(pair[0], pair[1]) for pair in layers if len(pair) == 2]
    if not pairs or len(pairs) != len(layers):
        raise InputError(f"layers: {layers} is not a list of [teacher, student] pairs")
    for t, s in pairs:
        if not (1 <= t <= teacher_layers and 1 <= s <= student_layers):
            raise InputError(
                f"layers: [{t}, {s}] is out of range; the teacher has layers 1 to {teacher_layers}, the student 1 "
                f"to {student_layers}"
            )
    return pairs
