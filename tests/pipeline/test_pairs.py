"""MRPC, the published files where they lie beside the project, and tables from parallel text files."""

import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from metakd.data.formats import FORMATS, read
from metakd.data.splits import normalised
from metakd.data.tables import Row, read_rows
from metakd.errors import InputError
from tests.conftest import SHARED, run_script, script

MRPC = SHARED / "mrpc"
needs_mrpc = pytest.mark.skipif(not MRPC.is_dir(), reason="no MRPC beside the project")
HEADER = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
GOOD = [f'{i % 2}\t{i}\t{i + 100}\t"First {i}" he\tsecond "{i}' for i in range(20)]


def tables(folder: Path) -> dict[str, list[Row]]:
    return {name: list(read_rows(folder / f"{name}.tsv")) for name in ("train", "dev", "test")}


def sentences(rows: list[Row]) -> set[str]:
    return {normalised(row[name]) for row in rows for name in ("text_a", "text_b")}


def published(folder: Path, train: list[str], test: list[str], header: str = HEADER) -> Path:
    """A folder with both files, as they are published: byte order mark, CRLF."""
    folder.mkdir(exist_ok=True)
    for name, lines in {"train": train, "test": test}.items():
        content = "".join(line + "\r\n" for line in [header, *lines]).encode("utf-8-sig", "surrogateescape")
        (folder / f"msr_paraphrase_{name}.txt").write_bytes(content)
    return folder


@needs_mrpc
def test_mrpc_is_read_whole(tmp_path: Path) -> None:
    script("data_prep/mrpc.py").main(source=MRPC, out=tmp_path / "out")
    found = tables(tmp_path / "out")
    labels = {name: Counter(row["label"] for row in rows) for name, rows in found.items()}
    assert labels["train"] + labels["dev"] == {"paraphrase": 2753, "not_paraphrase": 1323}
    assert labels["test"] == {"paraphrase": 1147, "not_paraphrase": 578}
    assert labels["dev"]["paraphrase"] == pytest.approx(275, abs=3)
    assert labels["dev"]["not_paraphrase"] == pytest.approx(132, abs=3)
    assert not sentences(found["train"]) & sentences(found["dev"])
    rows = {row["guid"]: row for part in found.values() for row in part}
    assert len(rows) == 4076 + 1725 and {row["domain"] for row in rows.values()} == {"mrpc"}
    assert 'whom he called "the witness", of' in rows["train-702876-702977"]["text_a"]
    assert rows["train-61559-61668"]["text_a"].startswith("Treasury\x12s long-range plan is")
    for name in ("train", "test"):  # every text as it stands in the file
        lines = (MRPC / f"msr_paraphrase_{name}.txt").read_bytes().decode("utf-8-sig").split("\r\n")[1:-1]
        for _, first, second, text_a, text_b in (line.split("\t") for line in lines):
            row = rows[f"{name}-{first}-{second}"]
            assert (row["text_a"], row["text_b"]) == (text_a, text_b)


@needs_mrpc
def test_mrpc_guids_do_not_depend_on_the_split(tmp_path: Path) -> None:
    for seed in (1, 2):
        script("data_prep/mrpc.py").main(source=MRPC, out=tmp_path / str(seed), dev=0.2, seed=seed)
    one, two = (tables(tmp_path / str(seed)) for seed in (1, 2))
    assert [row["guid"] for row in one["dev"]] != [row["guid"] for row in two["dev"]]
    assert len(one["dev"]) == pytest.approx(815, abs=3)
    whole = [{row["guid"]: row for part in found.values() for row in part} for found in (one, two)]
    assert whole[0] == whole[1]


def test_mrpc_keeps_pairs_with_a_common_sentence_together(tmp_path: Path) -> None:
    # A chain in which the common sentence is first in one pair and second in the other.
    chain = [f"1\t{i}\t{i + 1}\tsentence {i}\tSentence  {i + 1}" for i in range(200, 204)]
    mrpc = script("data_prep/mrpc.py")
    for seed in range(5):
        out = tmp_path / str(seed)
        mrpc.main(source=published(tmp_path / "raw", GOOD + chain, GOOD), out=out, dev=0.3, seed=seed)
        found = tables(out)
        assert len(found["train"]) + len(found["dev"]) == 24 and not sentences(found["train"]) & sentences(found["dev"])


def test_mrpc_command_skips_what_is_finished(tmp_path: Path) -> None:
    arguments = ["--source", published(tmp_path / "raw", GOOD, GOOD[:3]), "--out", tmp_path / "out"]
    first = run_script(tmp_path, "data_prep/mrpc.py", *arguments)
    assert first.returncode == 0 and "train 18  dev 2  test 3" in first.stderr
    assert tables(tmp_path / "out")["test"][1] == {
        "guid": "test-1-101", "text_a": '"First 1" he', "text_b": 'second "1', "label": "paraphrase", "domain": "mrpc",
    }  # fmt: skip
    assert "finished before" in run_script(tmp_path, "data_prep/mrpc.py", *arguments).stderr
    stale = run_script(tmp_path, "data_prep/mrpc.py", *arguments, "--dev", 0.5)
    assert "train 10  dev 10  test 3" in stale.stderr
    bad = run_script(tmp_path, "data_prep/mrpc.py", *arguments, "--dev", 1)
    assert bad.returncode == 2 and bad.stderr == "error: --dev is 1.0; it must be between 0 and 1\n"


@pytest.mark.parametrize(
    "line, message",
    [
        ("1\t7\t8\ttext", r"train\.txt, line 22: has 4 fields, not 5"),
        ("1\t7\t8\ttext\ttext\ttext", r"train\.txt, line 22: has 6 fields, not 5"),
        ("", r"train\.txt, line 22: has 1 fields, not 5"),
        ("2\t7\t8\ttext\ttext", r"train\.txt, line 22, field 'Quality': is '2'; it must be 0 or 1"),
        ("1\t7\t8\ttext\t ", r"train\.txt, line 22, field '#2 String': is empty"),
        ("1\t7\t\ttext\ttext", r"train\.txt, line 22, field '#2 ID': is empty"),
        ("1\t3\t103\ttext\ttext", r"train\.txt, line 22: the ids 3 and 103 are those of line 5"),
        ("1\t7\t8\tcaf\udce9\ttext", r"train\.txt, line 22: is not UTF-8"),
    ],
)
def test_mrpc_refuses_a_bad_line(tmp_path: Path, line: str, message: str) -> None:
    raw = published(tmp_path / "raw", [*GOOD, line], GOOD)
    with pytest.raises(InputError, match=message):
        script("data_prep/mrpc.py").main(source=raw, out=tmp_path / "out")
    raw = published(tmp_path / "raw", GOOD, [*GOOD, line])
    with pytest.raises(InputError, match=message.replace("train", "test")):
        script("data_prep/mrpc.py").main(source=raw, out=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_mrpc_refuses_wrong_files(tmp_path: Path) -> None:
    mrpc, out = script("data_prep/mrpc.py"), tmp_path / "out"
    with pytest.raises(InputError, match=r"msr_paraphrase_train\.txt is missing; name the folder"):
        mrpc.main(source=tmp_path / "raw", out=out)
    raw = published(tmp_path / "raw", GOOD, GOOD, header="index\t#1 ID\t#2 ID\t#1 String\t#2 String")
    with pytest.raises(InputError, match=r"train\.txt, line 1: the header is \['index', '#1 ID'"):
        mrpc.main(source=raw, out=out)
    with pytest.raises(InputError, match=r"test\.txt: has no rows"):
        mrpc.main(source=published(raw, GOOD, []), out=out)
    with pytest.raises(InputError, match=r"--dev 0\.001 leaves no row for dev"):
        mrpc.main(source=published(raw, GOOD[:1], GOOD), out=out, dev=0.001)
    (raw / "msr_paraphrase_test.txt").unlink()
    with pytest.raises(InputError, match=r"msr_paraphrase_test\.txt is missing"):
        mrpc.main(source=raw, out=out)
    assert not out.exists()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Three lines each: texts with a quotation mark, a tab and a separator that is no line end."""
    contents = {
        "text_a": '"one" he\na\ttab\nline\u2028separator\n',
        "text_b": "x\ny\nz\n",
        "label": "yes\nno\nyes\n",
        "domain": "books\nfilms\nbooks\n",
    }
    found = {}
    for name, content in contents.items():
        found[name] = tmp_path / f"train.{name}"
        found[name].write_text(content, "utf-8", newline="\n")
    return found


@pytest.mark.parametrize("suffix", FORMATS)
def test_aligned_lines_in_every_format(tmp_path: Path, files: dict[str, Path], suffix: str) -> None:
    out = tmp_path / "new" / f"train{suffix}"
    script("data_prep/aligned_lines.py").main(**{**files, "domain": str(files["domain"])}, out=out)
    assert list(read_rows(out)) == [
        {"guid": "train-1", "text_a": '"one" he', "text_b": "x", "label": "yes", "domain": "books"},
        {"guid": "train-2", "text_a": "a\ttab", "text_b": "y", "label": "no", "domain": "films"},
        {"guid": "train-3", "text_a": "line\u2028separator", "text_b": "z", "label": "yes", "domain": "books"},
    ]


def test_aligned_lines_command(tmp_path: Path, files: dict[str, Path]) -> None:
    out = tmp_path / "dev.jsonl"
    arguments = ["--text_a", files["text_a"], "--label", files["label"], "--domain", "news", "--out", out]
    first = run_script(tmp_path, "data_prep/aligned_lines.py", *arguments, "--name", "mine")
    assert first.returncode == 0 and "dev.jsonl: 3 rows" in first.stderr
    rows = list(read_rows(out))
    assert [row["guid"] for row in rows] == ["mine-1", "mine-2", "mine-3"]
    assert {(row["text_b"], row["domain"]) for row in rows} == {("", "news")}
    again = run_script(tmp_path, "data_prep/aligned_lines.py", *arguments, "--name", "mine")
    assert "finished before" in again.stderr
    files["label"].write_text("no\nno\nno\n")
    run_script(tmp_path, "data_prep/aligned_lines.py", *arguments)
    assert [(row["guid"], row["label"]) for row in read_rows(out)] == [(f"dev-{i}", "no") for i in (1, 2, 3)]
    files["label"].write_text("no\n")
    bad = run_script(tmp_path, "data_prep/aligned_lines.py", *arguments)
    assert bad.returncode == 2 and bad.stderr.startswith("error: the numbers of lines differ")
    assert [row["label"] for row in read_rows(out)] == ["no", "no", "no"]  # what was there stays


def test_aligned_lines_without_labels(tmp_path: Path, files: dict[str, Path]) -> None:
    out = tmp_path / "unlabelled.tsv"
    script("data_prep/aligned_lines.py").main(text_a=files["text_a"], text_b=files["text_b"], domain="news", out=out)
    assert [(row["label"], row["text_b"]) for row in read(out)] == [("", "x"), ("", "y"), ("", "z")]


def test_aligned_lines_reads_byte_order_marks_and_crlf(tmp_path: Path, files: dict[str, Path]) -> None:
    for path in files.values():
        content = path.read_text("utf-8").removesuffix("\n").replace("\n", " \r\n")
        path.write_bytes(content.encode("utf-8-sig"))
    out = tmp_path / "train.tsv"
    script("data_prep/aligned_lines.py").main(**{**files, "domain": str(files["domain"])}, out=out)
    rows = list(read_rows(out))
    assert len(rows) == 3 and rows[0] == {
        "guid": "train-1", "text_a": '"one" he', "text_b": "x", "label": "yes", "domain": "books",
    }  # fmt: skip


def test_aligned_lines_refuses_bad_files(tmp_path: Path, files: dict[str, Path]) -> None:
    aligned, out = script("data_prep/aligned_lines.py"), tmp_path / "out" / "train.tsv"
    arguments = {**files, "domain": "news", "out": out}
    files["text_b"].write_text("x\ny\n")
    with pytest.raises(InputError, match=r"text_a has 3, \S+text_b has 2, \S+label has 3; line i of each"):
        aligned.main(**arguments)
    files["text_b"].write_text("x\n \nz\n")  # a row without a second text
    whole = files["text_a"].read_text()
    files["text_a"].write_text("x\n \nz\n")
    with pytest.raises(InputError, match=r"train\.text_a, line 2: is empty"):
        aligned.main(**arguments)
    files["text_a"].write_text(whole)
    files["text_b"].write_bytes(b"x\ny\ncaf\xe9\n")
    with pytest.raises(InputError, match=r"train\.text_b, line 3: is not UTF-8"):
        aligned.main(**arguments)
    with pytest.raises(InputError, match=r"--text_b \S+absent: no such file"):
        aligned.main(**{**arguments, "text_b": tmp_path / "absent"})
    for path in files.values():
        path.write_text("")
    with pytest.raises(InputError, match=r"train\.text_a: has no lines"):
        aligned.main(**arguments)
    assert not out.parent.exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"out": Path("train.txt")}, r"--out train\.txt: unknown format '\.txt'; a table ends in one of \.tsv"),
        ({"domain": "absent/train.domain"}, r"--domain 'absent/train\.domain': no such file"),
        ({"domain": " "}, "--domain ' ': no such file"),
    ],
)
def test_aligned_lines_refuses_bad_options(
    tmp_path: Path, files: dict[str, Path], change: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        script("data_prep/aligned_lines.py").main(
            **{"text_a": files["text_a"], "domain": "news", "out": tmp_path / "out.tsv", **change}
        )
    assert not (tmp_path / "out.tsv").exists()


def test_aligned_lines_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("".join(f"text {i} {'word ' * 30}\n" for i in range(50_000)))
    aligned = script("data_prep/aligned_lines.py")
    tracemalloc.start()
    try:
        aligned.main(text_a=path, text_b=path, domain="news", out=tmp_path / "train.tsv")
        assert tracemalloc.get_traced_memory()[1] < 3e6 < path.stat().st_size / 2
    finally:
        tracemalloc.stop()
