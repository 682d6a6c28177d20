"""The HTML report on a single run, from results that are written down here."""

from pathlib import Path
from typing import Any

import pytest

from metakd.evaluation.html import to_html
from metakd.evaluation.pictures import Curves, Dots, Points, Report
from metakd.evaluation.run_report import run_report
from metakd.manifests import write_json

CODE = {"version": "0.2.0", "commit": None, "clean": None, "source": "0123456789abcdef", "script": None}


def scores(path: Path, accuracy: float, **more: Any) -> dict[str, Any]:
    return {
        "rows": 50, "accuracy": accuracy, "accuracy_95": [accuracy - 0.1, accuracy + 0.05], "macro_f1": accuracy,
        "majority": 0.5, "parameters": 2_000_000, "size_bytes": 8_000_000, "path": str(path), **more,
    }  # fmt: skip


def results_of(folder: Path, metric: str = "accuracy", with_teacher: bool = True) -> dict[str, Any]:
    """The results of students of two domains; the models' folders have training histories."""
    teacher = folder / "teacher"
    epochs = [{"epoch": 1, "losses": {"label": 0.7, "domain": 1.1}, "dev": {"score": 0.8}}]
    teacher.mkdir(parents=True)
    write_json(teacher / "history.json", {"epochs": epochs, "best": epochs[0], "losses": [0.7]})
    domains = []
    for name, accuracy in (("books", 0.8), ("<i>films", 0.7)):
        student = folder / name
        student.mkdir()
        losses = [{"epoch": e, "losses": {"logits": accuracy / e}} for e in (1, 2)]
        write_json(student / "history.json", {"prediction": {"epochs": losses, "best": None, "losses": [1.0]}})
        classes = {"<b>no": {"rows": 20, "precision": 0.5, "recall": 0.25, "f1": 0.3}}
        facts = {"starts_from": "layers 2, 4", "notes": [f"note on {name}"], "classes": classes}
        evaluation = {"domain": name, "table": "t", "agreement": 0.9, "model": scores(student, accuracy, **facts)}
        if with_teacher:
            evaluation["teacher"] = scores(teacher, 0.9, parameters=4_000_000)
        if metric != "accuracy":
            for model in (evaluation["model"], evaluation.get("teacher", {})):
                for score in ("accuracy", "accuracy_95", "majority", "macro_f1"):
                    model[metric] = model.pop(score, 0)
                model[metric] = 0.75
        domains.append(evaluation)
    means = {f"model_{metric}": 0.75, f"teacher_{metric}": 0.9, "model_macro_f1": 0.75, "teacher_macro_f1": 0.9}
    steps = [{"name": "x", "made_by": "distill.py", "seconds": 12.0, "peak_memory_mb": 30, "code": CODE}]
    return {
        "made": "2026-01-02T03:04:05", "settings": {"resolved": {}, "versions": {"torch": "2.13.0"}}, "steps": steps,
        "methods": ["metakd"], "seeds": [1], "mean_over_domains": means, "domains": domains,
    }  # fmt: skip


def titles_of(report: Report) -> list[str]:
    return [section.title for section in report.sections]


def test_report_of_one_seed(tmp_path: Path) -> None:
    report = run_report(results_of(tmp_path))
    assert report.verdict == (
        "The students reach 75.0 % accuracy, the mean over 2 domains, 15.0 points below their teacher; one seed cannot "
        "tell whether another method would do better."
    )
    assert titles_of(report) == [
        "Student and teacher by domain", "What one seed cannot show", "Score against size and time", "Classes",
        "Training curves", "What the students start from, and notes", "How it was made",
    ]  # fmt: skip
    books = report.sections[0].pictures[0]
    assert isinstance(books, Dots) and list(books.names) == ["student", "teacher", "majority class"]
    assert books.values == [80.0, 90.0, 50.0]
    assert books.intervals[0] == pytest.approx((70.0, 85.0)) and books.intervals[2] is None
    size = report.sections[2].pictures[0]
    assert isinstance(size, Points) and [(line.x, line.y) for line in size.series] == [([2.0], [75.0]), ([4.0], [90.0])]
    curves = {picture.title: picture for picture in report.sections[4].pictures}
    assert list(curves) == ["prediction: logits", "teacher: label", "teacher: domain", "teacher: dev score"]
    logits = curves["prediction: logits"]
    assert isinstance(logits, Curves) and logits.series[0].y == [0.75, 0.375]  # means of 0.8 and 0.7, 0.4 and 0.35
    html = to_html(report)
    assert "&lt;i&gt;films" in html and "<i>" not in html and "<b>no" not in html
    assert "note on books" in html and "layers 2, 4" in html and "0123456789abcdef" in html


def test_other_problems_and_runs_without_teacher(tmp_path: Path) -> None:
    report = run_report(results_of(tmp_path / "a", "spearman", with_teacher=False))
    assert report.verdict.startswith("The students reach 75.0 % Spearman, the mean over 2 domains; one seed")
    dots = report.sections[0].pictures[0]
    assert isinstance(dots, Dots) and list(dots.names) == ["student"] and dots.intervals == [None]
    assert "Score against size and time" not in titles_of(report)
    assert "<svg" in to_html(report)
