import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from metakd.data.row_store import DONE, KEYS, VALUES, RowStore, allocate, create_store
from metakd.errors import InputError


def test_an_incomplete_store_is_created_again_and_a_complete_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        create_store(tmp_path, ("a", "b"), 3)
    assert not (tmp_path / DONE).exists()
    create_store(tmp_path, ("a", "b"), 3)
    store = RowStore(tmp_path, writable=True)
    assert store.done is not None and not store.done.any()
    store.write(np.array([1]), np.ones((1, 3), np.float32))
    create_store(tmp_path, ("a", "b"), 3)
    assert RowStore(tmp_path).values.tolist() == [[0, 0, 0], [1, 1, 1]]
    with pytest.raises(InputError, match="row 2 is not the table's 'c'"):
        RowStore(tmp_path).require_guids(("a", "c"))


@pytest.mark.parametrize("name", [VALUES, KEYS, DONE])
def test_a_damaged_store_is_refused_and_begun_afresh(tmp_path: Path, name: str) -> None:
    guids = [str(i) for i in range(40)]
    for damaged in (b"", b"no array", None, np.zeros(30, "f4"), np.zeros((30, 3), "f4"), np.zeros((40, 3), "f8")):
        create_store(tmp_path, guids, 3)
        RowStore(tmp_path, writable=True).write(np.array([1]), np.ones((1, 3), np.float32))
        path = tmp_path / name
        if isinstance(damaged, np.ndarray):
            np.save(path, damaged)
        else:
            path.write_bytes(path.read_bytes()[:-5] if damaged is None else damaged)
        with pytest.raises(InputError, match=r"make (it|the folder) again"):
            RowStore(tmp_path, writable=True)
        create_store(tmp_path, guids, 3)
        store = RowStore(tmp_path, writable=True)
        assert store.done is not None and not store.done.any() and not store.values.any()


@pytest.mark.parametrize("supported", [True, False])
def test_an_allocated_file_keeps_its_bytes_and_has_no_holes(
    tmp_path: Path, supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*arguments: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    if not supported:
        monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    path, size = tmp_path / "file", (1 << 20) + 5000
    path.write_bytes(b"abc")
    os.truncate(path, 5000)
    allocate(path, size)
    assert path.read_bytes() == b"abc".ljust(size, b"\0")
    assert path.stat().st_blocks * 512 >= size
    allocate(tmp_path / "empty", 0)
    assert (tmp_path / "empty").stat().st_size == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB; skips the test where none can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("mounting a disk needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_is_an_error_that_names_the_file(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left") as error:
        create_store(small_disk, map(str, range(10_000)), 384)
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(small_disk / VALUES)
    assert not (small_disk / DONE).exists()
