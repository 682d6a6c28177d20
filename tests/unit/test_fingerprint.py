import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import metakd
from metakd.errors import InputError
from metakd.fingerprint import code_fingerprint, describe_code, git_commit, model_revision, source_hash
from metakd.manifests import content_hash

LOSS = '''"""Losses."""

def mse(a: float, b: float) -> float:
    """Squared difference."""
    return (a - b) ** 2  # per row
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "objectives").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "objectives" / "losses.py").write_text(LOSS)
    return folder


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("# per row", "# per row, never reduced", True),
        ("Squared difference.", "The squared difference of two numbers.", True),
        ('    """Squared difference."""\n', "", True),
        ('"""Losses."""\n', "", True),
        ("(a - b) ** 2", "((a - b)\n            ** 2)", True),
        ("(a - b) ** 2", "(a - b) ** 3", False),
        ("(a - b) ** 2", "(b - a) ** 2", False),
        ("def mse", "def squared_error", False),
        ("    return", '    name = "mse"\n    return', False),
    ],
)
def test_source_hash_follows_the_code_but_not_its_comments(package: Path, old: str, new: str, same: bool) -> None:
    before = source_hash(package)
    assert old in LOSS
    (package / "objectives" / "losses.py").write_text(LOSS.replace(old, new))
    assert (source_hash(package) == before) == same


def test_source_hash_follows_modules_and_scripts(package: Path, tmp_path: Path) -> None:
    script = tmp_path / "distill.py"
    hashes = [source_hash(package)]
    for text in ("epochs = 1\n", "epochs = 2\n"):
        script.write_text(text)
        hashes.append(source_hash(script))
    (package / "objectives" / "losses.py").rename(package / "losses.py")
    hashes.append(source_hash(package))
    (package / "losses.py").unlink()
    hashes.append(source_hash(package))
    assert len(set(hashes)) == len(hashes)


def test_source_hash_does_not_depend_on_the_place(package: Path, tmp_path: Path) -> None:
    before = source_hash(package)
    assert source_hash(package.rename(tmp_path / "elsewhere")) == before


@pytest.fixture
def fingerprint_of_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, object]]:
    """The fingerprint of this package, run by a script of one line."""
    script = tmp_path / "script.py"
    script.write_text("x = 1\n")
    monkeypatch.setattr("sys.argv", [str(script)])
    code_fingerprint.cache_clear()
    yield code_fingerprint()
    code_fingerprint.cache_clear()


def test_fingerprint_of_the_running_code(fingerprint_of_script: dict[str, object], tmp_path: Path) -> None:
    package = Path(metakd.__file__).parent
    assert fingerprint_of_script["version"] == metakd.__version__
    assert fingerprint_of_script["source"] == source_hash(package)
    assert fingerprint_of_script["script"] == source_hash(tmp_path / "script.py")


def test_code_in_words() -> None:
    code = {"version": "0.1.0", "commit": "1a2b3c4d5e6f7a8b", "clean": True, "source": "0123456789abcdef"}
    assert describe_code(code) == "metakd 0.1.0, commit 1a2b3c4d5e, source 0123456789abcdef"
    assert "commit 1a2b3c4d5e with changes" in describe_code({**code, "clean": False})
    assert describe_code({**code, "commit": None, "clean": None}) == "metakd 0.1.0, no commit, source 0123456789abcdef"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_commit(package: Path, tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert git_commit(package) == (None, None)
    git("init")
    (tmp_path / "project.py").write_text("x = 1")
    git("add", "project.py")
    git("commit", "-m", "a project that has the package in an untracked folder")
    assert git_commit(package) == (None, None)
    git("add", ".")
    git("commit", "-m", "the package")
    commit = git("rev-parse", "HEAD")
    assert git_commit(package) == (commit, True)
    (package / "untracked.py").write_text("")
    assert git_commit(package) == (commit, True)
    (tmp_path / "project.py").write_text("x = 2")
    assert git_commit(package) == (commit, False)


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(Path(metakd.__file__).parent) == (None, None)


@pytest.fixture
def hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The local cache of a machine without connection to the Hub, with two revisions of one model."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    model_revision.cache_clear()
    model = tmp_path / "hub" / "models--org--name"
    for commit in ("a" * 40, "b" * 40):
        (model / "snapshots" / commit).mkdir(parents=True)
        (model / "snapshots" / commit / "config.json").write_text("{}")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("a" * 40)
    return model


def test_a_hub_model_is_named_by_its_commit(hub_cache: Path) -> None:
    assert content_hash("org/name") == model_revision("org/name") == f"hub:org/name@{'a' * 40}"
    (hub_cache / "refs" / "main").write_text("b" * 40)
    assert content_hash("org/name") == f"hub:org/name@{'a' * 40}"  # a run keeps its revision
    model_revision.cache_clear()
    assert content_hash("org/name") == f"hub:org/name@{'b' * 40}"


@pytest.mark.parametrize("name", ["org/other", "runs/no/such/teacher", "/runs/teacher"])
def test_a_model_that_is_nowhere_is_refused(hub_cache: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name}: no such folder, and no model of this name on the .* Hub"):
        content_hash(name)


def test_a_missing_path_is_not_looked_up_on_the_hub(hub_cache: Path) -> None:
    with pytest.raises(InputError, match="org/name: no such file or folder"):
        content_hash(Path("org/name"))
