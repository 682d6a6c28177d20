"""Lines of JSON are answered in order, in whatever pieces they come, as the same rows of a table are."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from metakd.data.formats import Row, TableError
from metakd.data.tables import read_rows
from metakd.errors import InputError
from metakd.export.streams import lines_as_they_come, predict_stream
from tests.conftest import Tables, script


class Pieces(io.RawIOBase):
    """A source that gives its bytes in pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        piece = self.pieces.pop(0) if self.pieces else b""
        buffer[: len(piece)] = piece
        return len(piece)


def echo(rows: Sequence[Row]) -> Iterator[Row]:
    return ({"guid": row["guid"], "text": row["text_a"]} for row in rows)


def test_lines_come_in_pieces() -> None:
    pieces = [b"ab", b"c\nd\n\ne", b"f", b"\n", b"last"]
    assert list(lines_as_they_come(io.BufferedReader(Pieces(pieces)))) == [[b"abc", b"d", b""], [b"ef"], [b"last"]]


def test_answers_keep_the_order_and_name_bad_lines() -> None:
    first = b'\xef\xbb\xbf{"guid": null, "text_a": "one"}'
    lines = first + b'\n\nno json\n{"guid": "g", "text_a": "two"}\n{"text_a": " "}\n{"text_a": "\xff"}\n[1]'
    sink = io.StringIO()
    predict_stream(io.BufferedReader(io.BytesIO(lines)), sink, echo, True)
    answers = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert answers[0] == {"guid": "1", "text": "one"} and answers[2] == {"guid": "g", "text": "two"}
    wrong = ["row 3: is not JSON", "", "row 5, field 'text_a': is empty", "row 6, field 'text_a': is not UTF-8",
             "row 7: is not a JSON object"]  # fmt: skip
    for answer, what in zip(answers[1:], wrong, strict=True):
        assert what in answer.get("error", "")
    sink = io.StringIO()
    with pytest.raises(TableError, match="row 3: is not JSON"):
        predict_stream(io.BufferedReader(io.BytesIO(lines)), sink, echo, False)
    assert [json.loads(line)["text"] for line in sink.getvalue().splitlines()] == ["one"]


def test_a_stream_is_answered_as_a_table_is(
    tmp_path: Path,
    tables: Tables,
    meta_teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predict = script("experiments/predict.py").main
    predict(model=meta_teacher, table=tables["test"], out=tmp_path / "p.jsonl")
    capsys.readouterr()
    expected = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    lines = "".join(
        json.dumps({"guid": row["guid"], "text_a": row["text_a"]}) + "\n" for row in read_rows(tables["test"])
    )
    command = [sys.executable, "experiments/predict.py", "--model", str(meta_teacher), "--table", "-", "--out", "-"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    assert process.stdin is not None and process.stdout is not None
    first, rest = lines.split("\n", 1)
    process.stdin.write(first.encode() + b"\n")
    process.stdin.flush()
    answers = [json.loads(process.stdout.readline())]  # before the rest is sent
    output, _ = process.communicate(rest.encode())
    answers += [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 0 and len(answers) == len(expected)
    assert [answer["guid"] for answer in answers] == [row["guid"] for row in expected]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    predict(model=meta_teacher, table=Path("-"), out=Path("-"))  # in fp32 as above
    for line, row in zip(capsys.readouterr().out.splitlines(), expected, strict=True):
        answer = json.loads(line)
        assert answer.keys() == row.keys() and answer["prediction"] == row["prediction"]
        assert answer["logit.positive"] == pytest.approx(row["logit.positive"], abs=1e-5)
    with pytest.raises(InputError, match="so both must be -"):
        predict(model=meta_teacher, table=Path("-"), out=tmp_path / "x.tsv")
    with pytest.raises(InputError, match="skip_bad_lines is about lines from standard input"):
        predict(model=meta_teacher, table=tables["test"], out=tmp_path / "x.tsv", skip_bad_lines=True)
