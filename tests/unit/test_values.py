"""Values of settings and tables that make sense to a machine and not to a person: refused with place and remedy."""

import gzip
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from accelerate import Accelerator

from metakd.config import Task, Training
from metakd.data.formats import TableError
from metakd.data.labels import Labels, look_alikes
from metakd.data.logits_files import read_logits
from metakd.data.tables import domain_names, label_and_domain_names, read_rows, write_rows
from metakd.errors import InputError
from metakd.methods.method import Method, TeacherRecipe
from metakd.methods.stage import Stage, Term
from metakd.ranges import Range, check_value
from metakd.settings_files import load_yaml, parse_settings
from metakd.training.loop import TrainingJob, train_step
from tests.conftest import make_rows

HEAD = "guid\ttext_a\tlabel\tdomain\n"
TASK = "train: a\ndev: b\ntest: c\nteacher: t\nstudent: s\n"
METHOD = """teacher: {kind: mix, epochs: 1, learning_rate: 1.0e-4}
stages:
  - {name: prediction, epochs: 1, learning_rate: 1.0e-4, terms: [{feature: label}]}
"""


def read_text(path: Path, text: str | bytes) -> list[dict[str, Any]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_rows(path))


def read_file(path: Path, kind: type, text: str, *options: str) -> Any:
    path.write_text(text)
    return parse_settings("file", kind, [f"--file={path}", *options])


# Settings


@pytest.mark.parametrize(
    ("settings", "value", "message"),
    [
        (Training, {"max_grad_norm": -1}, r"training\.max_grad_norm is -1; it must be at least 0"),
        (Training, {"max_grad_norm": math.nan}, r"training\.max_grad_norm is nan; it must be at least 0"),
        (Training, {"weight_decay": -0.1}, r"training\.weight_decay is -0\.1; it must be at least 0"),
        (Training, {"seed": -1}, r"training\.seed is -1; it must be at least 0"),
        (Training, {"seed": 2**64}, r"training\.seed is 18446744073709551616; it must be at least 0 \(and at most"),
        (Training, {"warmup": 1.0}, r"training\.warmup is 1\.0; it must be from 0 to below 1"),
        (Training, {"batch_size": None}, r"training\.batch_size is null; give it a value, or leave it out"),
        (Training, {"checkpoint_seconds": math.inf}, r"training\.checkpoint_seconds is inf; it must be at least 0"),
        (TeacherRecipe, {"kind": "mix", "epochs": None}, r"teacher\.epochs is null"),
        (
            TeacherRecipe,
            {"kind": "mix", "epochs": 1, "learning_rate": 2.0},
            r"learning_rate is 2\.0; it must be from 0",
        ),
        (Term, {"feature": "label", "scale": math.nan}, "the term on label: scale is nan; it must be above 0"),
        (Term, {"feature": "label", "temperature": 0.0}, "the term on label: temperature is 0.0; it must be above 0"),
        (Stage, {"name": "s", "terms": [Term("label")], "epochs": 0, "learning_rate": 0.1}, "stage s: epochs is 0"),
    ],
)
def test_numbers_against_sense_are_refused(settings: type, value: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(**value)


@pytest.mark.parametrize(("max_grad_norm", "expected"), [(0, 100.0), (1.0, 1.0)])
def test_zero_switches_clipping_off(max_grad_norm: float, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    monkeypatch.setattr(optimizer, "step", lambda: seen.append(float(parameter.grad)))  # type: ignore[arg-type]
    module = torch.nn.Module()
    module.register_parameter("only", parameter)
    module.forward = lambda factor: {"label": factor * parameter}
    job = TrainingJob(module, None, {"label": 1.0}, {"label": np.ones(1)}, {"label": np.ones(1)})  # type: ignore[arg-type]
    job.inputs = lambda rows, device: (torch.tensor([100.0]),)  # type: ignore[method-assign]
    training = Training(max_grad_norm=max_grad_norm, precision="fp32")
    train_step(job, module, optimizer, Accelerator(cpu=True), np.array([0]), training, 0)
    assert seen == pytest.approx([expected], rel=1e-4)


def test_ranges_hold_their_ends_unless_they_are_left_out() -> None:
    assert Range(0, 1).holds(0) and Range(0, 1).holds(1) and not Range(0, 1).holds(1.1)
    assert not Range(0, above=True).holds(0) and Range(0, above=True).holds(1e-9)
    assert not Range(0, 1, below=True).holds(1) and not Range().holds(math.inf)
    with pytest.raises(InputError, match="fraction is True; it must be a number"):
        check_value(float, True, "fraction")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: [yes, no]\n", r"(?s)quote what is a name or a text, e\.g\. \['yes', 'no'\]"),
        ("labels: [0, 1]\n", r"(?s)quote what is a name or a text, .*\['0', '1'\]"),
        ("labels: [a, a]\n", "task.labels"),
        ("max_length: .nan\n", "max_length"),
        ("epochs_scale: .inf\n", r"task\.epochs_scale is inf"),
        ("training: [1, 2]\n", "training"),
        ("max_length: 8\nmax_length: 9\n", "the key 'max_length' occurs twice, again in line 7; remove one"),
        ("max_length: " + "9" * 5000 + "\n", "a value cannot be read|must be"),
    ],
)
def test_a_task_file_with_a_trap_is_refused_with_a_remedy(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_file(tmp_path / "task.yaml", Task, TASK + text)
    assert "task.yaml" in str(error.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "null\n", "7\n", "[]\n", "just words\n", "a: [\n", "\t- x\n"])
def test_what_is_no_method_file_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"method\.yaml"):
        read_file(tmp_path / "method.yaml", Method, text)


def test_a_number_from_the_command_line_is_checked_too(tmp_path: Path) -> None:
    assert read_file(tmp_path / "m.yaml", Method, METHOD, "--file.teacher.epochs=2").teacher.epochs == 2
    with pytest.raises(InputError, match=r"teacher\.epochs is -2; it must be at least 0"):
        read_file(tmp_path / "m.yaml", Method, METHOD, "--file.teacher.epochs=-2")


def test_aliases_that_grow_without_end_are_refused_at_once() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    started = time.monotonic()
    with pytest.raises(Exception, match="more than 20000 values, aliases written out"):
        load_yaml(bomb)
    with pytest.raises(Exception, match="stands inside itself"):
        load_yaml("a: &a [*a]\n")
    with pytest.raises(Exception, match="deep in each other"):
        load_yaml("[" * 60 + "]" * 60)
    assert time.monotonic() - started < 5
    assert load_yaml("a: &a [1, 2]\nb: *a\n") == {"a": [1, 2], "b": [1, 2]}


# Tables


def test_nan_is_a_missing_value(tmp_path: Path) -> None:
    row = {"guid": "1", "text_a": "a", "label": "x", "domain": "d"}
    with pytest.raises(TableError, match="row 1, field 'label': is empty"):
        read_text(tmp_path / "t.jsonl", json.dumps({**row, "label": math.nan}))
    with pytest.raises(TableError, match="row 1, field 'domain': is empty"):
        read_text(tmp_path / "t.jsonl", json.dumps({**row, "domain": None}))
    assert read_text(tmp_path / "t.jsonl", json.dumps({**row, "text_b": math.nan}))[0]["text_b"] == ""
    table = pyarrow.table({"guid": [1.0, 2.0], "text_a": ["a", "b"], "label": [1.0, math.nan], "domain": ["d", "d"]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(TableError, match="row 2, field 'label': is empty"):
        list(read_rows(tmp_path / "t.parquet"))


def test_space_around_names_is_no_part_of_them(tmp_path: Path) -> None:
    rows = read_text(tmp_path / "t.tsv", f"{HEAD}1\ta \t good\tfilms \n2\tb\tgood\t films\n")
    assert {(row["label"], row["domain"]) for row in rows} == {("good", "films")} and rows[0]["text_a"] == "a "
    labels = Labels(("x", "y"), "multi_label")
    assert labels.targets(["x|y", "x | y", " y|x"]).tolist() == [[1, 1]] * 3


@pytest.mark.parametrize(
    "names", [("1", "1.0"), ("1", "true"), ("1", "+1"), ("10", "1e1"), ("False", "0"), ("0.0", "false")]
)
def test_one_value_in_two_spellings_is_refused(names: tuple[str, str], tmp_path: Path) -> None:
    for field in ("label", "domain"):
        write_rows(tmp_path / "t.tsv", [{**row, field: names[i % 2]} for i, row in enumerate(make_rows(6))])
        with pytest.raises(InputError, match=f"field '{field}'.*in two spellings"):
            label_and_domain_names(tmp_path / "t.tsv")


def test_names_that_only_look_alike_are_found() -> None:
    assert look_alikes(["Films", "films", "books"]) == [["Films", "films"]]
    assert look_alikes(["a b", "a  b", "a\u200bb", "ab", "\ufb01n", "fin"]) == [
        ["a b", "a  b"],
        ["a\u200bb", "ab"],
        ["\ufb01n", "fin"],
    ]
    assert look_alikes(["a", "b"]) == []


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_a_column_that_occurs_twice_is_refused_in_every_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{suffix}"
    if suffix == ".jsonl":
        path.write_text('{"guid": "1", "text_a": "a", "label": "x", "domain": "d", "label": "y"}\n')
    elif suffix == ".parquet":
        names = ["guid", "text_a", "label", "domain", "label"]
        pyarrow.parquet.write_table(pyarrow.table([["1"]] * 5, names=names), path)
    else:
        line = "guid text_a label domain label\n1 a x d y\n"
        path.write_text(line.replace(" ", "\t" if suffix == ".tsv" else ","))
    with pytest.raises(TableError, match=r"occurs? twice: \['label'\]"):
        list(read_rows(path))


def test_blank_lines_are_no_rows_and_underscores_no_numbers(tmp_path: Path) -> None:
    assert len(read_text(tmp_path / "t.tsv", f"{HEAD}1\ta\tx\td\n\n2\tb\tx\td\n\n")) == 2
    with pytest.raises(TableError, match="row 1, field 'weight': '1_5' is not a number from 0 to"):
        read_text(tmp_path / "t.tsv", "guid\ttext_a\tlabel\tdomain\tweight\n1\ta\tx\td\t1_5\n")


def test_codes_with_leading_zeros_are_names(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.tsv", [{**row, "label": ("007", "7")[i % 2]} for i, row in enumerate(make_rows(6))])
    assert label_and_domain_names(tmp_path / "t.tsv")[0] == ["007", "7"]


def test_a_compressed_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t\.tsv: is compressed by gzip; unpack it"):
        read_text(tmp_path / "t.tsv", gzip.compress(HEAD.encode()))


def test_other_encodings_are_named(tmp_path: Path) -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        with pytest.raises(InputError, match=r"t\.tsv: is UTF-16 or UTF-32; save the file as UTF-8"):
            read_text(tmp_path / "t.tsv", f"{HEAD}1\ta\tx\td\n".encode(encoding))


def test_a_number_too_long_for_python_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"t\.jsonl, row 1: is not JSON"):
        read_text(tmp_path / "t.jsonl", '{"guid": ' + "9" * 5000 + ', "text_a": "a"}')


def test_damaged_parquet_is_named_and_columns_that_nobody_reads_do_no_harm(tmp_path: Path) -> None:
    path, columns = tmp_path / "t.parquet", {name: ["x"] * 50 for name in ("guid", "text_a", "label", "domain")}
    columns["guid"] = [str(i) for i in range(50)]
    notes = pyarrow.array([[f"note {i}"] * 3 for i in range(50)])
    pyarrow.parquet.write_table(
        pyarrow.table({**columns, "notes": notes}), path, compression="none", write_page_checksum=True
    )
    content = path.read_bytes()
    assert len(list(read_rows(path))) == 50
    harmed = bytearray(content)
    place = content.index(b"note 7")
    harmed[place : place + 6] = b"NOTE !"
    path.write_bytes(bytes(harmed))
    assert len(list(read_rows(path))) == 50  # the damage lies in a column that is not read
    for damaged in (content[: len(content) // 2], content[:-9], b"PAR1" + b"\0" * 40 + b"PAR1", b""):
        path.write_bytes(damaged)
        with pytest.raises(TableError, match=r"t\.parquet.*(damaged|no rows)"):
            list(read_rows(path))
    folder = tmp_path / "parts.parquet"
    folder.mkdir()
    with pytest.raises(TableError, match="is a folder; a table is one file; join the Parquet files"):
        list(read_rows(folder))


# Probabilities of another model


def test_rounded_probabilities_are_read_and_percents_are_named(tmp_path: Path) -> None:
    names = tuple("abcdefg")
    labels, path = Labels(names), tmp_path / "p.jsonl"
    rounded = {f"probability.{name}": 0.14 for name in names}  # 0.98 in all
    path.write_text(json.dumps({"guid": "1", **rounded}) + "\n")
    logits = read_logits(path, labels, ["1"], np.array([True]))
    np.testing.assert_allclose(np.exp(logits).sum(), 1, rtol=1e-5)
    path.write_text(json.dumps({"guid": "1", "probability.a": 0.0, "probability.b": 1.0000000000000002}))
    assert read_logits(path, Labels(("a", "b")), ["1"], np.array([True])).argmax() == 1
    path.write_text(json.dumps({"guid": "1", "probability.a": 1.2, "probability.b": 0.3}))
    with pytest.raises(TableError, match="1 rows are no probabilities from 0 to 1, first"):
        read_logits(path, Labels(("a", "b"), "multi_label"), ["1"], np.array([True]))
    path.write_text(json.dumps({"guid": "1", "probability.score": 0.5}))
    with pytest.raises(TableError, match=r"its columns are \['guid', 'probability.score'\]"):
        read_logits(path, Labels(("score",), "regression"), ["1"], np.array([True]))
    for values, message in (({"a": 60, "b": 40}, "are percents, which must be divided by 100"),
                            ({"a": 0.6, "b": 0.1}, "are no probabilities from 0 to 1 that add up to 1")):  # fmt: skip
        path.write_text(json.dumps({"guid": "1", **{f"probability.{name}": value for name, value in values.items()}}))
        with pytest.raises(TableError, match=message):
            read_logits(path, Labels(("a", "b")), ["1"], np.array([True]))


def test_the_numbers_of_a_regression_may_be_spelled_in_any_way(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.tsv", [{**row, "label": ("1", "1.0")[i % 2]} for i, row in enumerate(make_rows(6))])
    assert domain_names(tmp_path / "t.tsv", "books") == ["books", "films", "phones"]
    with pytest.raises(InputError, match=r"--domain flims: .*t\.tsv has .*did you mean 'films'"):
        domain_names(tmp_path / "t.tsv", "flims")
