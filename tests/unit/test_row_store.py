from pathlib import Path

import numpy as np
import pytest

from metakd.data.row_store import DONE, RowStore, create_store
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
