from pathlib import Path

import pytest

from metakd.data.labels import Labels
from metakd.data.tables import Row, TableError, label_and_domain_names, load_table, read_rows, write_rows

DIFFICULT_TEXTS = [
    "tab\there", 'a "quoted" word', '"starts with a quote', "line\nbreak", "carriage\rreturn", "both\r\nof them",
    "emoji 🙂 and é", "next line \x85 and \u2028 separator", "nul \0 inside", "comma, semicolon;", "'", "#hash", "NA",
]  # fmt: skip


def rows_of(texts: list[str]) -> list[Row]:
    return [
        {"guid": f"g{i}", "text_a": text, "text_b": text[::-1], "label": "yes", "domain": "d"}
        for i, text in enumerate(texts)
    ]


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("weighted", [False, True])
def test_round_trip(tmp_path: Path, suffix: str, weighted: bool) -> None:
    rows = [{**row, "weight": 0.1 * i} if weighted else row for i, row in enumerate(rows_of(DIFFICULT_TEXTS))]
    path = tmp_path / f"t{suffix}"
    assert write_rows(path, rows) == len(DIFFICULT_TEXTS)
    assert list(read_rows(path)) == rows
    assert list(load_table(path)) == rows


def test_the_cache_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_rows(path, rows_of(["one"]))
    assert load_table(path)["text_a"][:] == ["one"]
    write_rows(path, rows_of(["two"]))
    assert load_table(path)["text_a"][:] == ["two"]


HEADER = "guid\ttext_a\ttext_b\tlabel\tdomain\n"
BAD_TABLES = {
    "missing column": (
        "guid\ttext_a\tlabels\tdomain\na\tb\tc\td\n",
        ["'label'", "is missing", "did you mean 'labels'"],
    ),
    "empty text": (HEADER + "a\tx\t\tyes\td\nb\t  \t\tyes\td\n", ["row 2", "'text_a'", "empty"]),
    "unknown label": (HEADER + "a\tx\t\tyess\td\n", ["row 1", "'label'", "'yess'", "did you mean 'yes'"]),
    "unknown domain": (HEADER + "a\tx\t\tyes\tdd\n", ["row 1", "'domain'", "'dd'"]),
    "duplicate guid": (HEADER + "a\tx\t\tyes\td\na\ty\t\tyes\td\n", ["row 2", "'guid'", "twice"]),
    "broken quoting": (HEADER + 'a\tx\t\tyes\td\nb\t"x" y\t\tyes\td\n', ["row 2", "quoting"]),
    "unclosed quote": (HEADER + 'a\t"x\t\tyes\td\nb\ty\t\tyes\td\n', ["row 1", "quoting"]),
    "too many fields": (HEADER + "a\tx\ty\tz\tyes\td\n", ["row 1", "6 fields"]),
    "no rows": (HEADER, ["no rows"]),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_errors_name_file_row_and_field(tmp_path: Path, kind: str) -> None:
    text, messages = BAD_TABLES[kind]
    path = tmp_path / "bad.tsv"
    path.write_text(text, "utf-8")
    for read in (
        lambda: list(read_rows(path, Labels(("yes", "no")), ["d"])),
        lambda: load_table(path, Labels(("yes", "no")), ["d"]),
    ):
        with pytest.raises(TableError) as error:
            read()
        for message in ["bad.tsv", *messages]:
            assert message in str(error.value)


def test_wrong_encoding_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "latin.tsv"
    path.write_bytes((HEADER + "a\tx\t\tyes\td\nb\tcafé\t\tyes\td\n").encode("latin-1"))
    with pytest.raises(TableError, match=r"row 2, field 'text_a': is not UTF-8"):
        list(read_rows(path))


def test_json_lines_and_weights(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    good = '{"guid": 1, "text_a": "x", "label": 0, "domain": "d", "weight": 0.5}\n'
    path.write_text(good)
    assert next(read_rows(path)) == {
        "guid": "1", "text_a": "x", "text_b": "", "label": "0", "domain": "d", "weight": 0.5
    }  # fmt: skip
    second = good.replace("1,", "2,")
    for bad, message in (
        ("{", "row 2: is not JSON"),
        ("[]", "row 2: is not a JSON object"),
        (second.replace("0.5", '"NaN"'), "row 2, field 'weight': 'NaN' is not a number"),
        (second.replace("0.5", "-0.5"), "row 2, field 'weight': -0.5 is not a number from 0 to"),
        (second.replace(', "weight": 0.5', ""), "row 2, field 'weight': is missing, but row 1 has it"),
    ):
        path.write_text(good + bad.strip() + "\n\n")
        with pytest.raises(TableError, match=message):
            list(read_rows(path))


def test_a_weight_that_only_later_rows_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    row = '{"guid": "%s", "text_a": "x", "label": "0", "domain": "d"%s}\n'
    path.write_text(row % ("a", "") + row % ("b", ', "weight": 1'))
    with pytest.raises(TableError, match="row 2, field 'weight': is there, but row 1 has none"):
        list(read_rows(path))


def test_label_and_domain_names_without_the_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbfguid,text_a,label,domain\n1,x,b,e\n2,y,a,d\n")
    assert label_and_domain_names(path) == (["a", "b"], ["d", "e"])
