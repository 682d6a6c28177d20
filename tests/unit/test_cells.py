"""Cell files: small, whole, and read as the study calls its cells now."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metakd.data.labels import ProblemType
from metakd.errors import InputError
from metakd.evaluation.predictions import predicted, prediction_rows, rounded
from metakd.studies.cells import (
    CONTENT,
    cell_path,
    failed_cell,
    read_cell,
    read_cells,
    short_history,
    write_cell,
    write_study,
)
from metakd.studies.plan import Plan, PlannedCell, StudyStep
from metakd.studies.study import Cell, Study, StudyMethod


def test_rounded_probabilities_predict_the_same() -> None:
    values = np.array([[0.50001, 0.49999], [0.49999, 0.50001], [0.2, 0.8], [0.333333, 0.333334]])
    assert (rounded(values, "single_label").argmax(1) == values.argmax(1)).all()
    assert rounded(values, "single_label")[2].tolist() == [0.2, 0.8]
    assert rounded(np.array([[0.50001, 0.49999]]), "multi_label").tolist() == [[0.5001, 0.5]]
    many = np.random.default_rng(1).dirichlet([1, 1, 1], 20_000)
    near_ties = 1 / 3 + np.random.default_rng(2).normal(0, 1e-5, many.shape)
    for probabilities in (many, near_ties):
        cells = rounded(probabilities, "single_label")
        assert (predicted(cells, "single_label") == probabilities.argmax(1)).all()
        assert np.abs(cells - probabilities).max() < 1.6e-4


@pytest.mark.parametrize(
    ("problem", "targets", "values", "labels", "predictions"),
    [
        ("single_label", np.array([1, 0]), [[0.25, 0.75], [0.5, 0.5]], [1, 0], [1, 0]),
        (
            "multi_label",
            np.array([[1.0, 0.0], [0.0, 0.0]]),
            [[0.9, 0.51], [0.5, 0.1]],
            [[1, 0], [0, 0]],
            [[1, 1], [0, 0]],
        ),
        ("regression", np.array([1.5, -2.0], dtype=np.float32), [[1.25], [-3.0]], [1.5, -2.0], [1.25, -3.0]),
    ],
)
def test_predictions_of_every_kind_of_task(
    problem: ProblemType, targets: np.ndarray, values: Any, labels: Any, predictions: Any
) -> None:
    rows = prediction_rows(["a", "b"], targets, np.array(values), problem)
    assert rows == {"guid": ["a", "b"], "label": labels, "probabilities": values}
    assert json.loads(json.dumps(rows)) == rows
    assert predicted(np.array(rows["probabilities"]), problem).tolist() == predictions


def planned_cell(key: str, **options: Any) -> PlannedCell:
    fields = {"task": "t", "method": "m", "kind": "method", "domain": "books", "seed": 1, "fraction": 1.0}
    cell = Cell(**{**fields, "exclude_domain": False, **options})
    return PlannedCell(key, cell, {}, (Path("x"),), Path("x"))


def test_cells_of_the_study_are_read_in_its_order(tmp_path: Path) -> None:
    study = Study(["x.yaml"], {"m": StudyMethod("m.yaml")}, "m")
    planned = [planned_cell("aa"), planned_cell("bb", seed=2), planned_cell("aa", seed=3), planned_cell("cc", seed=4)]
    write_study(tmp_path, study, Plan({p.cell: p for p in planned}))
    step = StudyStep("student", Path("runs/s"))
    write_cell(tmp_path, failed_cell(planned[1], step, Path("logs/s.log"), "error: too long"))
    result = dict.fromkeys(CONTENT)
    write_cell(tmp_path, {**result, "key": "aa", "cell": {"method": "an old name"}})
    write_cell(tmp_path, {**result, "key": "dd", "cell": {"method": "of another study"}})
    cells = read_cells(tmp_path)
    assert [(cell["key"], cell["cell"]["seed"]) for cell in cells] == [("aa", 1), ("bb", 2), ("aa", 3)]
    assert cells[0]["cell"]["method"] == "m"  # as the study calls it now
    assert cells[1]["failed"] == {"step": "student runs/s", "log": "logs/s.log", "message": "error: too long"}
    with pytest.raises(InputError, match=r"has no study\.json"):
        read_cells(tmp_path / "elsewhere")


def test_a_cell_file_that_was_cut_short_is_no_result(tmp_path: Path) -> None:
    whole = {**dict.fromkeys(CONTENT), "key": "aa", "cell": {}}
    write_cell(tmp_path, whole)
    path = cell_path(tmp_path, "aa")
    assert read_cell(path) == whole
    path.write_bytes(path.read_bytes()[:-4])
    assert read_cell(path) is None and read_cell(tmp_path / "nothing") is None and read_cell(tmp_path) is None
    for content in (b'{"key": ', b"[]", b"{}", b'{"failed": null}', b"\xff", b"[" * 100_000):
        path.write_bytes(gzip.compress(content))
        assert read_cell(path) is None


def test_training_curves_are_shortened() -> None:
    epochs = [{"epoch": 1, "losses": {"label": 0.123456789}, "dev": {"score": 0.5}}]
    history = short_history({"epochs": epochs, "best": epochs[0], "losses": [1.0, 3.0] * 150})
    assert history["epochs"] == [{"epoch": 1, "losses": {"label": 0.12346}, "dev": {"score": 0.5}}]
    assert history["best"] == 1 and history["steps"] == 300 and len(history["losses"]) == 100
    assert np.mean(history["losses"]) == pytest.approx(2, abs=0.01)


def test_a_study_file_is_small(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet([0.3, 0.3], 500).round(4).tolist()
    rows = {"guid": [f"review-{i}" for i in range(500)], "label": [0, 1] * 250, "probabilities": probabilities}
    content = {"key": "aa", "cell": {}, "rows": rows, "teacher_probabilities": probabilities, "failed": None}
    write_cell(tmp_path, content)
    assert cell_path(tmp_path, "aa").stat().st_size * 200 < 5_000_000
    assert json.loads(gzip.decompress(cell_path(tmp_path, "aa").read_bytes())) == content
