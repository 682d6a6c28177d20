from collections import Counter

from metakd.data.splits import group_numbers, limit_rows, split
from tests.conftest import make_rows


def test_identical_texts_and_documents_stay_together() -> None:
    rows = make_rows(400)
    for i in range(0, 60, 2):
        rows[i + 1]["text_a"] = rows[i]["text_a"].upper() + " "  # identical but for case and space
    documents = [str(i // 3) if i >= 300 else f"own-{i}" for i in range(400)]
    splits = split(rows, {"train": 0.7, "dev": 0.1, "test": 0.2}, seed=1, documents=documents)
    split_of = {row["guid"]: name for name, split_rows in splits.items() for row in split_rows}
    assert len(split_of) == 400
    for i in range(0, 60, 2):
        assert split_of[rows[i]["guid"]] == split_of[rows[i + 1]["guid"]]
    for i in range(300, 399, 3):
        assert len({split_of[rows[j]["guid"]] for j in (i, i + 1, i + 2)}) == 1


def test_chains_are_one_group() -> None:
    rows = make_rows(4)
    for row, text in zip(rows, ["a", "b", "b", "c"], strict=True):
        row["text_a"] = text
    assert len(set(group_numbers(rows, ["1", "1", "2", "2"]))) == 1  # linked by document, text, document
    assert len(set(group_numbers(rows, ["1", "1", "2", "3"]))) == 2
    assert len(set(group_numbers(rows))) == 3


def test_strata_keep_their_shares() -> None:
    rows = make_rows(600)
    for row in rows:
        row["text_a"] = row["guid"]  # no repeats
    splits = split(rows, {"train": 0.8, "dev": 0.1, "test": 0.1}, seed=2)
    for name, share in [("train", 0.8), ("dev", 0.1), ("test", 0.1)]:
        for count in Counter((r["domain"], r["label"]) for r in splits[name]).values():
            assert abs(count - 100 * share) <= 1
    assert split(rows, {"train": 0.8, "dev": 0.1, "test": 0.1}, seed=2) == splits
    assert split(rows, {"train": 0.8, "dev": 0.1, "test": 0.1}, seed=3) != splits


def test_limit_rows_keeps_proportions() -> None:
    kept = limit_rows(make_rows(300), 31, seed=0)
    counts = Counter((r["domain"], r["label"]) for r in kept)
    assert Counter(r["domain"] for r in kept) == {"books": 31, "films": 31, "phones": 31}
    assert all(count in (15, 16) for count in counts.values())
