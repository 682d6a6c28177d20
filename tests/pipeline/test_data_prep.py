"""The data scripts: on the real data if it is there, and on small files with the same peculiarities."""

import gzip
import io
import itertools
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from metakd.data.pieces import pieces
from metakd.data.splits import normalised
from metakd.data.tables import TRAINING, UNLABELLED, Row, TableError, read_rows, write_rows
from metakd.errors import InputError
from tests.conftest import SHARED, script

AMAZON, MNLI = SHARED / "amazon_reviews", SHARED / "mnli"
needs_amazon = pytest.mark.skipif(not AMAZON.is_dir(), reason="the Amazon reviews are not there")
needs_mnli = pytest.mark.skipif(not MNLI.is_dir(), reason="MNLI is not there")


def read_tables(folder: Path) -> dict[str, list[Row]]:
    return {name: list(read_rows(folder / f"{name}.tsv")) for name in ("train", "dev", "test")}


def sizes(splits: dict[str, list[Row]], domain: str) -> tuple[int, ...]:
    return tuple(sum(row["domain"] == domain for row in splits[name]) for name in ("train", "dev", "test"))


@needs_amazon
def test_amazon_has_the_sizes_of_the_released_split(tmp_path: Path) -> None:
    script("data_prep/amazon_reviews.py").main(source=AMAZON, out=tmp_path / "out", split="released")
    splits = read_tables(tmp_path / "out")
    assert sizes(splits, "books") == (1631, 170, 199)
    assert sizes(splits, "dvd") == (1621, 194, 185)
    assert sizes(splits, "electronics") == (1615, 172, 213)
    assert sizes(splits, "kitchen") == (1613, 184, 203)


@needs_amazon
def test_amazon_keeps_identical_reviews_together(tmp_path: Path) -> None:
    script("data_prep/amazon_reviews.py").main(source=AMAZON, out=tmp_path / "out")
    splits = read_tables(tmp_path / "out")
    assert sum(map(len, splits.values())) == 8000
    texts = {name: {normalised(row["text_a"]) for row in rows} for name, rows in splits.items()}
    assert not texts["train"] & texts["dev"] and not texts["train"] & texts["test"] and not texts["dev"] & texts["test"]
    for domain in ("books", "dvd", "electronics", "kitchen"):
        assert sizes(splits, domain) == (1600, 200, 200)
    assert not any("\x1a" in row["text_a"] or "&quot;" in row["text_a"] for rows in splits.values() for row in rows)


def amazon_source(folder: Path, reviews: int) -> Path:
    """A folder of reviews like the published one; every tenth review repeats the one before."""
    for domain in ("books", "dvd", "electronics", "kitchen_&_housewares"):
        (folder / domain).mkdir(parents=True)
        for label in ("positive", "negative"):
            texts = [f"{domain} {label} {n - (n % 10 == 9)}" for n in range(reviews)]
            lines = [f"<review>\n<review_text>\n{text}\n</review_text>\n</review>\n" for text in texts]
            (folder / domain / f"{label}.review").write_text("".join(lines))
    return folder


def test_amazon_folds_test_every_review_once(tmp_path: Path) -> None:
    source, tested = amazon_source(tmp_path / "source", 50), list[str]()
    for fold in range(1, 6):
        script("data_prep/amazon_reviews.py").main(source=source, out=tmp_path / f"{fold}", fold=fold)
        splits = read_tables(tmp_path / f"{fold}")
        assert sizes(splits, "books") == (72, 8, 20)
        texts = {name: {row["text_a"] for row in rows} for name, rows in splits.items()}
        assert not texts["test"] & (texts["train"] | texts["dev"]) and not texts["train"] & texts["dev"]
        tested += [row["guid"] for row in splits["test"]]
    assert len(tested) == len(set(tested)) == 400


def test_the_released_split_has_no_folds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave out --split released"):
        script("data_prep/amazon_reviews.py").main(source=tmp_path, out=tmp_path / "out", fold=1, split="released")


def test_snippets_are_cut_into_domains_by_length() -> None:
    lengths = [9, 2, 5, 7, 1, 8]
    rows = [{"guid": str(n), "domain": d, "text_a": n * "x"} for d, n in zip("aabaaa", lengths, strict=True)]
    parts = [row["domain"] for row in script("data_prep/review_snippets.py").by_length(rows, 2)]
    assert parts == ["a-2", "a-1", "b-1", "a-1", "a-1", "a-2"]


@pytest.mark.parametrize(("options", "message"), [({"corpora": ["movie"]}, "did you mean 'movies'"),
                                                  ({"parts": 0}, "parts is 0")])  # fmt: skip
def test_snippets_of_an_unknown_corpus_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        script("data_prep/review_snippets.py").main(out=tmp_path / "out", downloads=tmp_path, **options)


def test_amazon_archive_is_read_without_unpacking(tmp_path: Path) -> None:
    amazon = script("data_prep/amazon_reviews.py")
    review = "<review>\n<rating>\n5.0\n</rating>\n<review_text>\nA &amp; B & C\x1a {}\n</review_text>\n</review>\n"
    archive = tmp_path / "data.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for domain, folder in amazon.FOLDERS.items():
            for label in amazon.LABELS:
                text = "".join(review.format(f"{domain} {label} {i}") for i in range(20)).encode()
                info = tarfile.TarInfo(f"sorted_data_acl/{folder}/{label}.review")
                info.size = len(text)
                file.addfile(info, io.BytesIO(text))
    amazon.main(source=archive, out=tmp_path / "out")
    splits = read_tables(tmp_path / "out")
    assert {row["guid"]: row["text_a"] for rows in splits.values() for row in rows}["dvd-negative-3"] == (
        "A & B & C dvd negative 2"
    )
    content, damaged = archive.read_bytes(), tmp_path / "damaged.tar.gz"
    for wrong in (b"no archive", b"", content[: len(content) // 2], content[:20]):
        damaged.write_bytes(wrong)
        with pytest.raises(InputError, match=r"damaged\.tar\.gz: not the published archive, or cut off"):
            amazon.main(source=damaged, out=tmp_path / "other")
    with tarfile.open(damaged, "w:gz") as file:
        info = tarfile.TarInfo("sorted_data_acl/books/positive.review")
        info.type = tarfile.DIRTYPE
        file.addfile(info)
    with pytest.raises(InputError, match=r"positive\.review is no file"):
        amazon.main(source=damaged, out=tmp_path / "other")


def test_a_blank_review_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    reviews = script("data_prep/amazon_reviews.py").reviews
    text = "".join(f"<review_text>\n{words}\n</review_text>\n" for words in ("good", " \x1a ", "bad"))
    assert [row["guid"] for row in reviews(text, "books", "positive")] == ["books-positive-1", "books-positive-3"]
    assert "books/positive.review: 1 blank reviews are left out" in caplog.text
    with pytest.raises(InputError, match="no <review_text> with a text"):
        reviews("<p>", "books", "positive")


@needs_mnli
def test_mnli_dev_is_a_tenth_of_train_by_domain_and_label(tmp_path: Path) -> None:
    script("data_prep/mnli.py").main(train=MNLI / "train.jsonl", dev=MNLI / "dev_matched.jsonl", out=tmp_path / "out")
    splits = read_tables(tmp_path / "out")
    assert len(splits["test"]) == 9815 and len(splits["train"]) + len(splits["dev"]) == 25072
    cells = {name: Counter((row["domain"], row["label"]) for row in splits[name]) for name in ("train", "dev")}
    for cell, count in cells["dev"].items():
        assert abs(count - 0.1 * (count + cells["train"][cell])) <= 3


def test_mnli_reads_glue_tsv(tmp_path: Path) -> None:
    header = "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n"
    lines = [f'{i}\t{i}\t{i}n\tfiction\t"Say {i}" he\tquote " {i}\tneutral\tneutral\n' for i in range(20)]
    lines[3] = lines[3].replace("\tneutral\n", "\t-\n")
    train, dev = tmp_path / "train.tsv", tmp_path / "dev.tsv"
    train.write_text(header + "".join(lines))
    dev.write_text(header + lines[0])
    script("data_prep/mnli.py").main(train=train, dev=dev, out=tmp_path / "out")
    splits = read_tables(tmp_path / "out")
    assert len(splits["train"]) + len(splits["dev"]) == 19  # one row has no gold label
    assert splits["test"] == [
        {"guid": "dev-0n", "text_a": '"Say 0" he', "text_b": 'quote " 0', "label": "neutral", "domain": "fiction"}
    ]
    with pytest.raises(InputError, match="did you mean 'fiction'"):
        script("data_prep/mnli.py").main(train=train, dev=dev, out=tmp_path / "other", genres=["fictions"])
    train.write_text(header + "broken\trow\n")
    with pytest.raises(TableError, match=r"train\.tsv, row 1: has 2 fields, the header 8"):
        script("data_prep/mnli.py").main(train=train, dev=dev, out=tmp_path / "other")


def test_pieces_are_even_and_hold_every_word_once() -> None:
    text = "  ".join(str(n) for n in range(124))
    parts = pieces(f" {text}\n", words=50)  # 124 / 50 is nearest to 2
    assert [len(part.split()) for part in parts] == [62, 62] and "  ".join(parts) == text
    assert [len(part.split()) for part in pieces(text, words=49)] == [41, 41, 42]
    assert pieces("one two", words=50) == ["one two"]


def test_a_table_of_pieces(tmp_path: Path) -> None:
    cut = script("data_prep/text_pieces.py")
    rows = [{"guid": "long", "text_a": "a b c d e f", "text_b": "", "label": "bad", "domain": "films"},
            {"guid": "short", "text_a": "a b", "text_b": "", "label": "good", "domain": "films"}]  # fmt: skip
    write_rows(tmp_path / "train.tsv", rows)
    cut.main(table=tmp_path / "train.tsv", out=tmp_path / "pieces.jsonl", words=3)
    written = [(row["guid"], row["text_a"], row["label"], row["domain"])
               for row in read_rows(tmp_path / "pieces.jsonl", required=UNLABELLED)]  # fmt: skip
    assert written == [("long-piece1", "a b c", "", "films"), ("long-piece2", "d e f", "", "films")]


@pytest.mark.parametrize(
    ("row", "words", "out", "message"),
    [
        ({}, 5, "pieces.tsv", "no text of .* has 1.5 times as many words"),
        ({"text_b": "why?"}, 1, "pieces.tsv", "row 1.*'text_b'.*pairs"),
        ({}, 1, "pieces.txt", "unknown format '.txt'"),
    ],
)
def test_what_cannot_be_cut_is_refused(tmp_path: Path, row: dict[str, str], words: int, out: str, message: str) -> None:
    whole = {"guid": "1", "text_a": "a b c d", "text_b": "", "label": "good", "domain": "films"}
    write_rows(tmp_path / "train.tsv", [{**whole, **row}])
    with pytest.raises(InputError, match=message):
        script("data_prep/text_pieces.py").main(table=tmp_path / "train.tsv", out=tmp_path / out, words=words)
    assert not (tmp_path / out).exists()


def test_text_from_elsewhere(tmp_path: Path) -> None:
    pair = {"guid": "1", "text_a": "a b c d e f", "text_b": "Why  not", "label": "good", "domain": "films"}
    write_rows(tmp_path / "pairs.jsonl", [pair])
    with gzip.open(tmp_path / "lines.gz", "wt") as file:
        file.write("why not\n\ng h i\n")
    other = script("data_prep/other_text.py")
    texts = [tmp_path / "pairs.jsonl", tmp_path / "lines.gz"]
    other.main(texts=texts, out=tmp_path / "other.tsv", words=3)
    found = list(read_rows(tmp_path / "other.tsv", required=UNLABELLED))
    assert [row["text_a"] for row in found] == ["a b c", "d e f", "Why  not", "g h i"]
    assert [row["guid"] for row in found] == ["other-1", "other-2", "other-3", "other-4"]
    assert {row["domain"] for row in found} == {"other"} and {row["label"] for row in found} == {""}
    everything = [row["text_a"] for row in found]
    draws = {tuple(other.drawn(texts, 3, 2, seed)) for seed in range(100)}
    assert draws == set(itertools.combinations(everything, 2))  # every pair occurs, in the order of the files


def test_text_from_elsewhere_that_is_missing_is_refused(tmp_path: Path) -> None:
    other = script("data_prep/other_text.py")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(InputError, match=r"no\.txt: no such file; name tables"):
        other.main(texts=[tmp_path / "empty.txt", tmp_path / "no.txt"], out=tmp_path / "other.tsv")
    for name in ("table.TSV", "table.jsonl.gz", "table.json"):
        (tmp_path / name).write_text("guid\ttext_a\tlabel\n1\tgood\tpositive\n")
        with pytest.raises(InputError, match=f"{name}: a table must be unpacked"):
            other.main(texts=[tmp_path / name], out=tmp_path / "other.tsv")
    with pytest.raises(InputError, match="is a folder; name its files"):
        other.main(texts=[tmp_path], out=tmp_path / "other.tsv")
    with pytest.raises(InputError, match="--domain is empty"):
        other.main(texts=[tmp_path / "empty.txt"], out=tmp_path / "other.tsv", domain="")
    with pytest.raises(InputError, match="no text in these files"):
        other.main(texts=[tmp_path / "empty.txt"], out=tmp_path / "other.tsv")
    assert not (tmp_path / "other.tsv").exists()


def labelled(number: int, domain: str, label: str, text: str = "") -> Row:
    text = text or f"text {domain} {number}"
    return {"guid": f"{domain}-{number}", "text_a": text, "text_b": "", "label": label, "domain": domain}


def test_one_table_becomes_three(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [labelled(i, domain, "ab"[i % 4 == 0]) for i in range(40) for domain in ("books", "films")]
    rows += [labelled(i, "films", "", f"Text  books {i - 100}") for i in range(100, 140)]  # texts of books, no label
    rows += [labelled(i, "books", "a", f"text films {i - 200}") for i in range(200, 210)]  # texts of films, two labels
    rows += [labelled(i, "shop", "ab"[i % 2]) for i in range(5)]
    write_rows(tmp_path / "all.csv", rows)
    options = {"table": tmp_path / "all.csv", "out": tmp_path / "t", "dev": 0.1, "test": 0.2, "train_only": ["shop"]}
    script("data_prep/split_table.py").main(**options)
    tables = {name: list(read_rows(tmp_path / f"t/{name}.tsv", required=TRAINING)) for name in ("train", "dev", "test")}
    assert sizes(tables, "shop") == (5, 0, 0)
    found = Counter((name, row["domain"], row["label"]) for name, part in tables.items() for row in part)
    assert [found[name, "films", "b"] for name in tables] == [7, 1, 2]
    assert sum(found[name, "books", "a"] for name in tables) == 40 and all(row["label"] for row in tables["test"])
    texts = {name: {normalised(row["text_a"]) for row in part} for name, part in tables.items()}
    assert not texts["train"] & (texts["dev"] | texts["test"]) and not texts["dev"] & texts["test"]
    by_guid = {row["guid"]: row for row in rows}
    assert all(row == by_guid[row["guid"]] for part in tables.values() for row in part)
    lost = {row["guid"] for row in rows} - {row["guid"] for part in tables.values() for row in part}
    held_out = texts["dev"] | texts["test"]
    assert lost == {row["guid"] for row in rows if not row["label"] and normalised(row["text_a"]) in held_out}
    assert len(lost) > 0 and f"{len(lost)} rows with a text of dev or test are left out of train" in caplog.text


def test_numbers_are_dealt_like_one_class(tmp_path: Path) -> None:
    write_rows(tmp_path / "all.tsv", [labelled(i, "books", f"{i / 7}") for i in range(50)])
    script("data_prep/split_table.py").main(table=tmp_path / "all.tsv", out=tmp_path / "t", problem="regression")
    assert sizes(read_tables(tmp_path / "t"), "books") == (40, 5, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dev": 0.0}, r"--dev is 0.0 and --test 0.1; each must be above 0"),
        ({"dev": 0.5, "test": 0.5}, r"both together below 1"),
        ({"train_only": ["film"]}, r"--train_only: 'film' is not among \['books', 'films'\]; did you mean 'films'\?"),
        ({}, r"domain 'films' has too few rows .* keep it in train by --train_only '\[films\]'"),
    ],
)
def test_a_table_that_cannot_be_dealt_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    rows = [labelled(i, "books", "a") for i in range(20)] + [labelled(i, "films", "a") for i in range(2)]
    write_rows(tmp_path / "all.tsv", rows)
    with pytest.raises(InputError, match=message):
        script("data_prep/split_table.py").main(table=tmp_path / "all.tsv", out=tmp_path / "t", **options)
    assert not (tmp_path / "t").exists()
