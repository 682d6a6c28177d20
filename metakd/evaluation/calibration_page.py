"""The page on a calibrated classifier: how often it is right, by the share of rows that it predicts."""

from __future__ import annotations

from metakd.evaluation.calibration import Calibration
from metakd.evaluation.document import Table
from metakd.evaluation.pictures import Curves, NamedTable, Report, Section, Series

RIGHT, BOUND, TARGET = "right on these rows", "lower bound for future rows", "target"


def calibration_report(calibration: Calibration, name: str, lines: list[str]) -> Report:
    """The report on one classifier.

    Args:
        name: of the classifier.
        lines: the result in words.
    """
    curve = calibration.curve
    coverage = [100 * threshold.coverage for threshold in curve]
    series = [
        Series(RIGHT, coverage, [100 * threshold.right for threshold in curve]),
        Series(BOUND, coverage, [100 * threshold.lower_bound for threshold in curve]),
        Series(TARGET, coverage, [100 * calibration.target for _ in curve]),
    ]
    picture = Curves(
        "Right by coverage", f"{calibration.rows} dev rows", "rows that are predicted, %", "right, %", series=series
    )
    text = (
        "The fewer rows are predicted, the surest first, the more of them are right. The lower bound holds for future "
        "rows of the same kind, for all points together, with 95 % confidence; it is wide where rows are few."
    )
    return Report(
        f"Calibration of {name}", lines[-1], [], [
            Section("Coverage", [text], [picture], [NamedTable("Thresholds", coverage_table(calibration))], legend=[
                RIGHT, BOUND, TARGET,
            ]),
            Section("Probabilities", [], lines=lines[:-1], tables=[NamedTable("By class", class_table(calibration))]),
        ], [RIGHT, BOUND, TARGET],
    )  # fmt: skip


def coverage_table(calibration: Calibration) -> Table:
    """The thresholds as a table."""
    rows = [
        [f"{threshold.confidence:.4f}", f"{100 * threshold.coverage:.1f}", str(threshold.rows),
         f"{100 * threshold.right:.1f}", f"{100 * threshold.lower_bound:.1f}"]
        for threshold in calibration.curve
    ]  # fmt: skip
    headers = ["confidence from", "rows predicted, %", "rows", "right, %", "lower bound, %"]
    return Table(headers, rows, text_columns=1)


def class_table(calibration: Calibration) -> Table:
    """The classes' calibration errors before and after."""
    before, after = (calibration.errors[when]["by_class"] for when in ("before", "after"))
    rows = [[name, f"{before[name]:.3f}", f"{after[name]:.3f}"] for name in before]
    return Table(["class", "calibration error before", "after"], rows)
