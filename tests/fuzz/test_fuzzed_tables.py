"""Tables, logits files and embeddings folders, whole or damaged, give the right rows or an error with the place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metakd.data import formats
from metakd.data.labels import Labels
from metakd.data.logits_files import read_logits
from metakd.data.row_store import KEYS, VALUES, RowStore, create_store
from metakd.data.tables import COLUMNS, read_rows, write_rows
from metakd.weighting.prototypes import prototype_scores
from tests.conftest import make_rows
from tests.fuzz.harness import damaged, examples, odd_text, odd_value, result_or_input_error

names = st.text(min_size=1, max_size=8).filter(lambda name: name.strip() and _is_utf8(name))
texts = (st.text(max_size=30) | odd_text).filter(lambda text: _is_utf8(text))
suffixes = st.sampled_from(formats.FORMATS)
rows_of_a_table = st.lists(
    st.fixed_dictionaries(
        {"guid": names, "text_a": texts.filter(str.strip), "text_b": texts, "label": names, "domain": names}
    ),
    min_size=1, max_size=6, unique_by=lambda row: row["guid"],
)  # fmt: skip


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(rows=rows_of_a_table, suffix=suffixes)
@examples(80)
def test_every_table_comes_back_as_it_was_written(rows: list[dict[str, str]], suffix: str, folder: Path) -> None:
    path = folder / f"whole{suffix}"
    write_rows(path, rows)
    stripped = [{**row, "label": row["label"].strip(), "domain": row["domain"].strip()} for row in rows]
    assert list(read_rows(path)) == stripped


@given(values=st.lists(st.dictionaries(st.sampled_from(COLUMNS) | odd_text, odd_value, max_size=6), max_size=4))
@examples(80)
def test_any_json_lines_are_rows_or_an_error(values: list[dict[str, Any]], folder: Path) -> None:
    path = folder / "any.jsonl"
    path.write_text("\n".join(map(json.dumps, values)), "utf-8")
    for row in result_or_input_error(lambda: list(read_rows(path)), path) or []:
        assert list(row)[:5] == list(COLUMNS) and all(isinstance(row[name], str) for name in COLUMNS)
        assert row["label"].casefold() != "nan"


@given(content=st.binary(max_size=200), suffix=suffixes)
@examples(80)
def test_any_bytes_are_rows_or_an_error(content: bytes, suffix: str, folder: Path) -> None:
    path = folder / f"bytes{suffix}"
    path.write_bytes(content)
    result_or_input_error(lambda: list(read_rows(path)), path)


@given(data=st.data(), suffix=suffixes)
@examples(120)
def test_a_damaged_byte_never_changes_another_row(data: st.DataObject, suffix: str, folder: Path) -> None:
    path, rows = folder / f"damaged{suffix}", make_rows(5)
    write_rows(path, rows)
    content = path.read_bytes()
    expected = {row["guid"]: row for row in read_rows(path)}
    position = data.draw(st.integers(0, len(content) - 1))
    harmed = content[:position] + bytes([data.draw(st.integers(0, 255))]) + content[position + 1 :]
    path.write_bytes(harmed)
    found = result_or_input_error(lambda: list(read_rows(path)), path)
    if found is None:
        return
    different = [row for row in found if expected.get(row["guid"]) != row]
    assert len(different) <= (0 if suffix == ".parquet" else 1), different
    assert len(found) == len(rows) and [row["guid"] for row in found if row not in different] == [
        row["guid"] for row in rows if row["guid"] in {row["guid"] for row in found if row not in different}
    ]


@given(data=st.data(), suffix=suffixes)
@examples(80)
def test_a_damaged_table_is_rows_or_an_error(data: st.DataObject, suffix: str, folder: Path) -> None:
    path = folder / f"cut{suffix}"
    write_rows(path, make_rows(5))
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    result_or_input_error(lambda: list(read_rows(path)), path)


@given(data=st.data(), kind=st.sampled_from(["logit.", "probability."]), suffix=suffixes)
@examples(80)
def test_logits_files_give_finite_logits_or_an_error(data: st.DataObject, kind: str, suffix: str, folder: Path) -> None:
    path, labels, guids = folder / f"logits{suffix}", Labels(("no", "yes")), ["1", "2", "3"]
    number = st.floats(0, 1, width=32) | st.sampled_from([0.5, 1.0, 60, math.nan, math.inf, -1, 1e39])
    columns = ["guid", f"{kind}no", f"{kind}yes"]
    rows = [
        dict(zip(columns, (guid, float(data.draw(number)), float(data.draw(number))), strict=True)) for guid in guids
    ]
    formats.write(path, rows, columns, suffix)
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(damaged(path.read_bytes())))
    read: Callable[[], np.ndarray] = lambda: read_logits(path, labels, guids, np.ones(3, dtype=bool))  # noqa: E731
    logits = result_or_input_error(read, path)
    assert logits is None or (logits.shape == (3, 2) and np.isfinite(logits).all())


@given(data=st.data(), file=st.sampled_from([VALUES, KEYS]))
@examples(80)
def test_damaged_embeddings_give_finite_weights_or_an_error(data: st.DataObject, file: str, folder: Path) -> None:
    guids, place = [str(i) for i in range(8)], folder / "embeddings"
    place.mkdir(exist_ok=True)
    for path in place.iterdir():
        path.unlink()
    create_store(place, guids, 4)
    RowStore(place, writable=True).write(np.arange(8), np.random.default_rng(0).normal(size=(8, 4)))
    (place / file).write_bytes(data.draw(damaged((place / file).read_bytes())))

    def scores() -> np.ndarray:
        store = RowStore(place)
        store.require_guids(guids)
        return np.array(store.values)

    values = result_or_input_error(scores, place)
    if values is not None and np.isfinite(values).all() and np.abs(values).max() < 1e15:
        weights = prototype_scores(values, np.arange(8) % 2, np.arange(8) // 4)
        assert ((weights >= 0) & (weights <= 1)).all()
