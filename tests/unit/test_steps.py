import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import metakd
from metakd.config import StudentFromTeacher
from metakd.errors import InputError
from metakd.fingerprint import code_fingerprint
from metakd.manifests import content_hash
from metakd.steps import ReadOnlyError, Step

OTHER_SOURCE = "0123456789abcdef"


@pytest.fixture
def run_other_code(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, steps are made by code with another source hash."""
    other = {**code_fingerprint(), "source": OTHER_SOURCE}
    return lambda: monkeypatch.setattr("metakd.steps.code_fingerprint", lambda: other)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def make(out: Path, text: str, settings: dict | None = None, inputs: dict | None = None, remake: bool = False) -> bool:
    """Run a step that writes `text`; returns whether it ran."""
    step = Step(out, settings or {}, inputs or {}, file=bool(out.suffix), remake=remake)
    if step.finished():
        return False
    with step.workspace() as place:
        assert place is not None
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
    left = {path.name for path in tmp_path.iterdir()} - {f".{name}.lock", f"{name}.manifest.json"}
    assert left == {"source", name}


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
    (tmp_path / "results").mkdir()
    with pytest.raises(InputError, match=r"results exists, but has no results\.manifest\.json"):
        Step(tmp_path / "results", {}, {}, file=True)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match="not a folder that can be written to"):
        Step(blocked / "out", {}, {})


def test_hash_follows_content(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, "a")
    first = content_hash(out)
    make(out, "b", {"x": 2})
    second = content_hash(out)
    assert second != first
    shutil.copytree(out, tmp_path / "copy", copy_function=shutil.copy)  # other times, so it is hashed anew
    assert content_hash(tmp_path / "copy") == second


def test_the_manifest_says_what_the_output_was_made_from(tmp_path: Path) -> None:
    table, out = tmp_path / "table.tsv", tmp_path / "out"
    table.write_bytes(b"abc")
    settings = {"layers": (1, 3), "task": StudentFromTeacher([2]), "place": Path("a/b")}
    with Step(out, settings, {"train": table}, {"seed": 1}).workspace():
        pass
    manifest = json.loads((out / "manifest.json").read_text())
    student = {"layers": [2], "choose": "spread", "of": "teacher"}
    assert manifest["settings"] == {"layers": [1, 3], "task": student, "place": "a/b"}
    # The digest of "abc" from FIPS 180-2, appendix B.1.
    assert manifest["inputs"] == {"train": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    assert manifest["input_paths"] == {"train": str(table)}
    assert manifest["code"] == code_fingerprint()
    assert manifest["resolved"] == {"seed": 1}
    assert manifest["versions"]["metakd"] == metakd.__version__


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"input 'train': .*gone\.tsv: no such file or folder"):
        Step(tmp_path / "out", {}, {"train": tmp_path / "gone.tsv"})


@pytest.mark.parametrize("name", ["folder", "file.json"])
def test_an_output_of_other_code_is_used_with_a_warning_or_made_anew(
    tmp_path: Path, name: str, run_other_code: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / name
    made_by = code_fingerprint()
    make(out, "old")
    assert Step(out, {}, {}, file=bool(out.suffix)).finished() and not warnings(caplog)
    run_other_code()
    assert not make(out, "new")
    (message,) = warnings(caplog)
    assert all(str(part) in message for part in (out, made_by["version"], made_by["source"], OTHER_SOURCE))
    assert "--remake true" in message
    caplog.clear()
    assert make(out, "new", remake=True)
    assert (out if out.is_file() else out / "text").read_text() == "new"
    assert not make(out, "newer", remake=True)  # this code made it
    assert not warnings(caplog)


def test_a_killed_remake_goes_on(tmp_path: Path, run_other_code: Callable[[], None]) -> None:
    out = tmp_path / "out"
    make(out, "old")
    run_other_code()
    with pytest.raises(KeyboardInterrupt), Step(out, {}, {}, remake=True).workspace() as place:
        (place / "begun").write_text("")
        raise KeyboardInterrupt
    assert (out / "text").read_text() == "old"
    with Step(out, {}, {}, remake=True).workspace() as place:
        assert (place / "begun").exists()


def test_what_other_code_began_is_started_afresh(
    tmp_path: Path, run_other_code: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    step = Step(tmp_path / "out", {}, {})
    with pytest.raises(KeyboardInterrupt), step.workspace() as place:
        (place / "begun").write_text("")
        (step.scratch / "checkpoint").write_text("")
        raise KeyboardInterrupt
    run_other_code()
    step = Step(tmp_path / "out", {}, {})
    with step.workspace() as place:
        assert not (place / "begun").exists() and not (step.scratch / "checkpoint").exists()
    assert f"begun with other code, starting afresh: {place}" in caplog.messages


@pytest.mark.parametrize("name", ["folder", "file.json"])
def test_a_kill_at_any_point_of_publishing_is_no_dead_end(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write, rename and removal of a step is the last one once; the next call always ends well."""
    real = {method: getattr(Path, method) for method in ("replace", "unlink", "write_text", "mkdir")}
    for last in range(20):
        out, count = tmp_path / str(last) / name, 0
        make(out, "old", {"x": 1})

        class Killed(BaseException):
            pass

        def dying(method: str, killed: type[BaseException] = Killed, at: int = last) -> object:
            def call(self: Path, *arguments: object, **options: object) -> object:
                nonlocal count
                count += 1
                if count > at:
                    raise killed
                return real[method](self, *arguments, **options)

            return call

        for method in real:
            monkeypatch.setattr(Path, method, dying(method))
        try:
            make(out, "new", {"x": 2})
            killed = False
        except Killed:
            killed = True
        for method, function in real.items():
            monkeypatch.setattr(Path, method, function)
        make(out, "new", {"x": 2})
        assert (out if out.is_file() else out / "text").read_text() == "new"
        assert Step(out, {"x": 2}, {}, file=bool(out.suffix)).finished()
        if not killed:
            break
    else:
        pytest.fail("a step takes more operations than were tried")


def test_an_exchanged_file_is_noticed(tmp_path: Path) -> None:
    out = tmp_path / "model"
    make(out, "weights")
    before = content_hash(out)
    (out / "text").write_text("other weights")
    assert content_hash(out) != before


def test_a_foreign_folder_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "notes").write_text("mine")
    with pytest.raises(InputError, match="in the way"):
        make(tmp_path / "out", "a")
    assert (tmp_path / "out.partial" / "notes").read_text() == "mine"


def test_a_second_run_waits_and_finds_it_finished(tmp_path: Path) -> None:
    started, ran = threading.Event(), []

    def run(text: str) -> None:
        step = Step(tmp_path / "out", {}, {})
        assert not step.finished()
        started.set()
        with step.workspace() as place:
            if place is not None:
                ran.append(text)
                time.sleep(0.3)
                (place / "text").write_text(text)

    threads = [threading.Thread(target=run, args=(text,)) for text in ("a", "b")]
    for thread in threads:
        thread.start()
        started.wait()
    for thread in threads:
        thread.join()
    assert len(ran) == 1 and (tmp_path / "out" / "text").read_text() == ran[0]


def test_an_output_that_is_an_input_or_another_steps_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "teacher"
    make(out, "weights")
    with pytest.raises(InputError, match="is also the input 'teacher'"):
        Step(out, {"x": 2}, {"teacher": out})
    monkeypatch.setattr("sys.argv", ["experiments/distill.py"])
    with pytest.raises(InputError, match=r"was made by .*; it is left as it is"):
        Step(out, {"x": 2}, {})
    assert (out / "text").read_text() == "weights"


def test_foreign_files_do_not_count_and_are_kept_when_the_output_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "model"
    make(out, "old")
    before = content_hash(out)
    (out / "onnx").mkdir()
    (out / "onnx" / "model.onnx").write_text("mine")
    (out / "onnx" / "manifest.json").write_text("{}")
    (out / ".DS_Store").write_text("")
    (out / "data").symlink_to(tmp_path)
    assert content_hash(out) == before
    assert not make(out, "old")
    for text, kept in (("new", "model.kept"), ("newer", "model.kept2")):
        assert make(out, text, {"text": text})
        assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "text"]
        assert f"now in {tmp_path / kept}" in warnings(caplog)[-1]
        (out / "notes").write_text("mine")  # kept the next time
    assert (tmp_path / "model.kept/onnx/model.onnx").read_text() == "mine"
    assert (tmp_path / "model.kept/onnx/manifest.json").is_file() and (tmp_path / "model.kept/data").is_symlink()
    assert (tmp_path / "model.kept2/notes").read_text() == "mine"


@pytest.mark.parametrize("name", ["folder", "file.json"])
def test_an_output_that_was_changed_afterwards_is_refused_or_made_anew(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / name
    make(out, "whole")
    file = out if out.is_file() else out / "text"
    file.write_text("whol")
    with pytest.raises(InputError, match=f"{file.name} has 4 bytes, not 5.*--remake true"):
        make(out, "whole")
    assert file.read_text() == "whol"
    assert make(out, "whole", remake=True)
    file.write_text("hole!")  # of the same size
    assert not make(out, "whole")
    monkeypatch.setattr("metakd.steps.VERIFY", True)
    with pytest.raises(InputError, match=f"{file.name} has other bytes"):
        make(out, "whole")
    file.unlink()
    if out.exists():
        with pytest.raises(InputError, match="text is missing"):
            make(out, "whole")


@pytest.mark.parametrize("exists", [True, False])
def test_an_output_that_is_a_link_is_made_where_it_leads(tmp_path: Path, exists: bool) -> None:
    disk, link = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    if exists:
        (disk / "real").mkdir()
    link.symlink_to(disk / "real")
    for text in ("a", "b"):
        assert make(link, text, {"text": text})
        assert link.is_symlink() and (disk / "real" / "text").read_text() == text
    assert not make(link, "b", {"text": "b"})
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(InputError, match="loop"):
        Step(loop, {}, {})


def test_the_current_folder_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (".", "..", "/", "../here"):
        with pytest.raises(InputError, match="is the current folder or holds it"):
            Step(Path(out), {}, {})
    with pytest.raises(InputError, match="more than 220 bytes"):
        Step(Path("x" * 240), {}, {})
    assert make(Path("x" * 220), "a")


def test_an_output_that_holds_an_input_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, "a")
    (out / "table").write_text("mine")
    with pytest.raises(InputError, match="is also the input 'train', or holds it"):
        Step(out, {}, {"train": out / "table"})


@pytest.mark.parametrize("name", ["out", "out.json"])
@pytest.mark.parametrize("kind", ["{}.partial", ".{}.scratch", ".{}.discarded"])
def test_what_lies_in_the_way_stays(tmp_path: Path, name: str, kind: str) -> None:
    foreign = tmp_path / kind.format(name)
    foreign.write_text("mine")
    with pytest.raises(InputError, match=f"{foreign.name} is in the way"):
        make(tmp_path / name, "a")
    assert foreign.read_text() == "mine"


def test_a_finished_output_on_a_read_only_disk_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    make(out, "a")
    (tmp_path / ".out.lock").unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    step = Step(out, {}, {})
    assert step.finished()
    with step.workspace() as place:
        assert place is None
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(ReadOnlyError, match="not a folder that can be written to"):
        Step(out, {"x": 2}, {})


def test_outputs_have_the_permissions_of_new_files(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with Step(tmp_path / "out", {}, {}).workspace() as place:
            assert place is not None
            (place / "weights").touch(0o600)
    finally:
        os.umask(old)
    assert (tmp_path / "out/weights").stat().st_mode & 0o777 == 0o640


def test_a_damaged_manifest_is_an_unknown_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, "a")
    made_by = json.loads((out / "manifest.json").read_text())["made_by"]
    odd = [{"files": 1, "made_by": made_by}, {"files": {"text": 1}, "content": "a", "made_by": made_by}]
    for text in ("", "{", "[]", *map(json.dumps, odd)):
        (out / "manifest.json").write_text(text)
        assert not Step(out, {}, {}).finished()
        assert content_hash(out) != "a"


def test_a_manifest_of_another_program_stays(tmp_path: Path) -> None:
    app = {"manifest.json": '{"name": "my web app"}', "index.html": "<p>"}
    for name in ("out", "other.partial", ".third.scratch", ".fourth.discarded"):
        folder = tmp_path / name
        folder.mkdir()
        for file, content in app.items():
            (folder / file).write_text(content)
        out = tmp_path / {"out": "out", "other.partial": "other", ".third.scratch": "third"}.get(name, "fourth")
        with pytest.raises(InputError, match=r"another program|is in the way"):
            make(out, "a")
        assert {path.name: path.read_text() for path in folder.iterdir()} == app


def test_a_damaged_manifest_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, "a")
    (out / "manifest.json").write_text("[1, 2]")
    make(out, "b")
    assert (tmp_path / "out.kept/manifest.json").read_text() == "[1, 2]"


def test_a_link_in_a_workspace_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir(mode=0o700)
    with Step(tmp_path / "out", {}, {}).workspace() as folder:
        assert folder is not None
        (folder / "text").write_text("a")
        (folder / "link").symlink_to(target)
    assert target.stat().st_mode & 0o777 == 0o700
    assert list(json.loads((tmp_path / "out/manifest.json").read_text())["files"]) == ["text"]


def test_an_input_that_was_changed_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path / "folder", "abc")
    make(tmp_path / "file.json", "abc")
    Step(tmp_path / "out", {}, {"one": tmp_path / "folder", "two": tmp_path / "file.json"})
    assert "changed" not in caplog.text
    (tmp_path / "folder/text").write_text("ab")
    (tmp_path / "file.json").write_text("ab")
    Step(tmp_path / "out", {}, {"one": tmp_path / "folder", "two": tmp_path / "file.json"})
    for role in ("one", "two"):
        assert f"input '{role}'" in caplog.text
    assert caplog.text.count("has 2 bytes, not 3") == 2


def test_a_foreign_lock_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".out.lock").write_text("precious")
    with pytest.raises(InputError, match=r"\.out\.lock is in the way"):
        make(tmp_path / "out", "a")
    assert (tmp_path / ".out.lock").read_text() == "precious"


def test_a_manifest_with_odd_code_is_that_of_other_code(tmp_path: Path) -> None:
    make(tmp_path / "out", "a")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    for code in (None, "x", []):
        (tmp_path / "out/manifest.json").write_text(json.dumps({**manifest, "code": code}))
        assert Step(tmp_path / "out", {}, {}).finished()


def test_a_foreign_manifest_beside_a_file_stays(tmp_path: Path) -> None:
    manifest = tmp_path / "p.tsv.manifest.json"
    manifest.write_text('{"name": "app"}')
    for _ in range(2):
        with pytest.raises(InputError, match="made by another program"):
            make(tmp_path / "p.tsv", "a")
        (tmp_path / "p.tsv").write_text("mine")
    assert manifest.read_text() == '{"name": "app"}' and (tmp_path / "p.tsv").read_text() == "mine"
