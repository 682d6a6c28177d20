"""Files of reports: what a person wrote or changed in their place is kept."""

from pathlib import Path

import pytest

from metakd.errors import InputError
from metakd.evaluation.files import write_files


def test_own_files_are_replaced_and_others_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "run"
    write_files(folder, {"report.md": "one", "report.html": "<p>"})
    write_files(folder, {"report.md": "two", "report.html": "<p>"})
    assert (folder / "report.md").read_text() == "two" and not caplog.records
    (folder / "report.md").write_text("my notes")
    (folder / "results.json").write_text("mine")
    for text in ("three", "four"):
        write_files(folder, {"report.md": text, "results.json": "{}"})
    assert {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith(".")} == {
        "report.md": "four", "report.html": "<p>", "results.json": "{}", "report.md.kept": "my notes",
        "results.json.kept": "mine",
    }  # fmt: skip
    assert "is now" in caplog.text


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("words")
    (tmp_path / "report.md").symlink_to(tmp_path / "precious")
    write_files(tmp_path, {"report.md": "text"})
    assert (tmp_path / "precious").read_text() == "words" and (tmp_path / "report.md").read_text() == "text"


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    (tmp_path / "report.md").mkdir()
    for folder in (tmp_path / "file", tmp_path):
        with pytest.raises(InputError, match="choose another path"):
            write_files(folder, {"report.md": "text"})
