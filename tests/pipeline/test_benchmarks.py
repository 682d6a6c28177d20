"""The benchmarks that need no other library and no model run, and their numbers add up."""

import json
from pathlib import Path

import pytest

from tests.conftest import run_script


def test_prototypes(tmp_path: Path) -> None:
    found = run_script(
        tmp_path, "experiments/benchmarks/prototypes.py", "--out", tmp_path / "found.json", "--rows", 20000,
        "--streamed_rows", 30000, "--width", 16, "--rounds", 1, "--work", tmp_path / "work",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    result = json.loads((tmp_path / "found.json").read_text())
    medians = result["medians"]
    assert result["ratio"] == pytest.approx(medians["scoring"]["seconds"] / medians["reading"]["seconds"])
    assert "scoring / reading" in found.stdout


def test_scale(tmp_path: Path) -> None:
    found = run_script(
        tmp_path, "experiments/benchmarks/scale.py", "--out", tmp_path / "found.json", "--rows", 64, "--growth", "1",
        "--work", tmp_path / "work",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    result = json.loads((tmp_path / "found.json").read_text())
    several = result["processes"]
    assert len(several) == 4
    for way, values in several.items():
        if way != "1 process":
            assert len(values["losses"]) == 2 and values["largest_difference_of_a_loss"] < 1e-5, way
