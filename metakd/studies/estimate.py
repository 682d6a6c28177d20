"""What a plan will cost, from the seconds that finished cells took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from metakd.evaluation.document import Block, Table
from metakd.studies.cells import CellFile
from metakd.studies.plan import Plan


def mean_seconds(plan: Plan, cells: Sequence[CellFile]) -> dict[str, float]:
    """The mean seconds of a step of each kind over the finished cells, which may need several of a kind.

    No cell holds the time of an analysis; it passes over rows once, as an evaluation does.
    """
    numbers = {p.key: Counter(plan.steps[out].kind for out in p.steps) for p in plan.cells.values()}
    seconds: dict[str, list[float]] = defaultdict(list)
    for cell in cells:
        of_cell = numbers.get(cell["key"], Counter())
        for kind, total in cell.get("seconds", {}).items():
            value = total / max(1, of_cell[kind])
            seconds[kind].append(value)
            if kind == "evaluation":
                seconds["analysis"].append(value)
    return {kind: float(np.mean(values)) for kind, values in seconds.items()}


def plan_blocks(plan: Plan, unfinished: Plan, cells: Sequence[CellFile], workers: int) -> list[Block]:
    """The plan in words and a table: cells and steps to run, and an estimate of the time.

    Args:
        cells: finished ones.
        workers: steps at a time.
    """
    keys, open_keys = ({planned.key for planned in p.cells.values()} for p in (plan, unfinished))
    seconds, counts = mean_seconds(plan, cells), Counter(step.kind for step in unfinished.steps.values())
    rows = [
        [kind, str(count), f"{seconds[kind]:.1f}" if kind in seconds else "", minutes(count * seconds.get(kind, 0.0))]
        for kind, count in counts.items()
    ]
    total = sum(count * seconds.get(kind, 0.0) for kind, count in counts.items()) / workers
    known = [kind for kind in counts if kind in seconds]
    if not counts:
        estimate = "Nothing is to be run."
    elif not known:
        estimate = "There is no estimate before the first cell is finished."
    else:
        least = "At least" if len(known) < len(counts) else "About"
        basis = f"by the mean of {len(cells)} finished cells"
        estimate = f"{least} {minutes(total)} minutes with {workers} steps at a time, {basis}."
    about = f"{len(plan.cells)} cells with {len(keys)} results, {len(keys) - len(open_keys)} of them finished."
    table = [Table(["step", "to run", "seconds each", "minutes"], rows)] if rows else []
    return [about, *table, estimate]


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}" if seconds else ""
