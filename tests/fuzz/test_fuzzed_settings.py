"""Task, method and study files with odd values, or damaged, give valid settings or an error that names the file."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from metakd.config import Task
from metakd.methods.method import Method
from metakd.settings_files import parse_settings
from metakd.studies.study import Study
from tests.conftest import ROOT
from tests.fuzz.harness import changed, damaged, examples, places, result_or_input_error

FILES = [
    *((file, Task) for file in sorted((ROOT / "experiments/tasks").glob("*.yaml"))),
    *((file, Method) for file in sorted((ROOT / "experiments/methods").glob("*.yaml"))),
    *((file, Study) for file in sorted((ROOT / "experiments/studies").glob("*.yaml"))),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def read(path: Path, kind: type) -> Any:
    return result_or_input_error(lambda: parse_settings("file", kind, [f"--file={path}"]), path)


def assert_sensible(settings: Any) -> None:
    """Every number of the settings is finite; changes that a study makes are read with the file that they change."""
    assert is_dataclass(settings)
    content = asdict(settings)  # type: ignore[arg-type]
    for place in places(content):
        if {"change", "overrides"} & set(place):
            continue
        value: Any = content
        for key in place:
            value = value[key]
        assert not isinstance(value, float) or abs(value) < float("inf"), (place, value)


def test_every_file_is_accepted_as_it_is() -> None:
    for file, kind in FILES:
        assert_sensible(parse_settings("file", kind, [f"--file={file}"]))


@given(data=st.data())
@examples(150)
def test_odd_values_are_refused_with_the_file(data: st.DataObject, folder: Path) -> None:
    file, kind = data.draw(st.sampled_from(FILES))
    path = folder / "odd.yaml"
    path.write_text(yaml.safe_dump(data.draw(changed(yaml.safe_load(file.read_text("utf-8"))))), "utf-8")
    settings = read(path, kind)
    if settings is not None:
        assert_sensible(settings)


@given(data=st.data())
@examples(100)
def test_damaged_files_are_refused_with_the_file(data: st.DataObject, folder: Path) -> None:
    file, kind = data.draw(st.sampled_from(FILES))
    path = folder / "damaged.yaml"
    path.write_bytes(data.draw(damaged(file.read_bytes())))
    settings = read(path, kind)
    if settings is not None:
        assert_sensible(settings)
