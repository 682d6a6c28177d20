import json
from pathlib import Path

import pytest

from metakd.errors import InputError
from metakd.steps import Step, content_hash


def make(out: Path, text: str, config: dict | None = None, inputs: dict | None = None) -> bool:
    """Run a step that writes `text`; returns whether it ran."""
    step = Step(out, config or {}, inputs or {}, file=bool(out.suffix))
    if step.finished():
        return False
    with step.workspace() as place:
        (place if step.file else place / "text").write_text(text)
    return True


@pytest.mark.parametrize("name", ["folder", "file.json"])
def test_finished_is_skipped_and_stale_is_redone(tmp_path: Path, name: str) -> None:
    source, out = tmp_path / "source", tmp_path / name
    source.write_text("1")
    assert make(out, "a", {"x": 1}, {"source": source})
    assert not make(out, "b", {"x": 1}, {"source": source})
    assert make(out, "c", {"x": 2}, {"source": source})  # other settings
    source.write_text("2")
    assert make(out, "d", {"x": 2}, {"source": source})  # other input
    assert (out if out.is_file() else out / "text").read_text() == "d"
    assert not [*tmp_path.glob("*.partial"), *tmp_path.glob("*.old")]


def test_a_failed_step_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, "old")
    step = Step(out, {"new": 1}, {})
    with pytest.raises(RuntimeError), step.workspace() as place:
        (place / "text").write_text("half")
        raise RuntimeError
    assert (out / "text").read_text() == "old"
    assert Step(out, {}, {}).finished()


def test_an_interrupted_step_goes_on_only_with_the_same_settings(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), Step(out, {"x": 1}, {}).workspace() as place:
        (place / "begun").write_text("")
        raise RuntimeError
    with pytest.raises(RuntimeError), Step(out, {"x": 1}, {}).workspace() as place:
        assert (place / "begun").exists()
        raise RuntimeError
    with Step(out, {"x": 2}, {}).workspace() as place:
        assert not (place / "begun").exists()


def test_foreign_or_half_written_outputs_are_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match=r"mine exists, but has no manifest\.json"):
        Step(out, {}, {})
    assert (out / "thesis.txt").read_text() == "precious"
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match="not a folder that can be written to"):
        Step(blocked / "out", {}, {})


def test_hash_follows_content(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, "a")
    first = content_hash(out)
    (tmp_path / "copy").mkdir()
    make(out, "b", {"x": 2})
    assert content_hash(out) != first
    assert json.loads((out / "manifest.json").read_text())["versions"]["metakd"]
    assert content_hash("bert-base-uncased") == "name:bert-base-uncased"
