"""Reports of studies whose cells are drawn at random; the accuracies of their methods are known."""

import gzip
import json
import re
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from metakd.errors import InputError
from metakd.evaluation.expectations import read_expectations
from metakd.evaluation.figures import draw, draw_file, look
from metakd.evaluation.pictures import Curves, Dots, Histogram, Matrix, Picture, Points, Series
from metakd.evaluation.sections.folds import fold_scores, folds_table
from metakd.evaluation.sections.predictions import pooled, reliability, suspicious_rows
from metakd.evaluation.sections.scores import changed_values, only_alone, summary_table
from metakd.evaluation.sections.training import mean_of, seconds_of_steps
from metakd.evaluation.statistics import Comparison, Verdict
from metakd.evaluation.study_report import study_report
from metakd.evaluation.study_results import DomainResults, most_common, read_results
from metakd.evaluation.study_scores import StudyScores
from metakd.evaluation.text import shorten
from metakd.studies.cells import read_cells
from metakd.studies.study import Study, StudyMethod
from tests.conftest import read_yaml, script
from tests.fake_study import CONTROLS, METHODS, write_study

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "br", "img", "input", "link", "hr"}


class Page(HTMLParser):
    """What a browser would make of a page: elements, attributes, ids and text by element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(name, value or "") for name, value in attributes]
        self.ids += [value or "" for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data.strip())


def make_report(folder: Path, **options: Any) -> tuple[str, str]:
    """report.html and report.md of a study, by the script."""
    script("experiments/study_report.py").main(study_folder=folder, out=folder / "report", **options)
    return (folder / "report/report.html").read_text(), (folder / "report/report.md").read_text()


def titles_of(folder: Path) -> list[str]:
    return [section.title for section in study_report("x", read_results(folder), [], "").sections]


def edit_cell(folder: Path, wanted: dict[str, Any], change: dict[str, Any]) -> None:
    """Change fields of the first cell at a point of the grid."""
    for path in sorted((folder / "cells").iterdir()):
        cell = json.loads(gzip.decompress(path.read_bytes()))
        if all(cell["cell"][name] == value for name, value in wanted.items()):
            path.write_bytes(gzip.compress(json.dumps({**cell, **change}).encode()))
            return
    raise AssertionError(f"no cell {wanted}")


def test_report_of_200_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = {**METHODS, **{f"method_{i}": 0.83 + 0.005 * i for i in range(5)}}
    study = write_study(tmp_path / "s", methods, tasks=("reviews", "news"), domains=("a", "b", "c"))
    assert len(list((study / "cells").iterdir())) == 216
    html, markdown = make_report(study)
    assert len(html) < 700_000
    assert sum(path.stat().st_size for path in (study / "cells").iterdir()) < 5_000_000
    page = Page(html)
    assert page.elements["h1"] == page.elements["main"] == 1 and page.elements["figure"] > 20
    assert len(set(page.ids)) == len(page.ids)
    assert page.elements["desc"] == page.elements["figure"] and len(page.texts["desc"]) == page.elements["desc"]
    assert all("3 seeds" in text for text in page.texts["span"])
    assert {value for name, value in page.attributes if name in ("href", "src")} <= {f"#{name}" for name in page.ids}
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert "url(http" not in html and "@import" not in html and "default-src &#39;none&#39;" not in html
    verdict = page.texts["p"][0]
    assert (
        verdict.startswith("On reviews, metakd is better than label_only (+6.0), ") and "; on news, metakd " in verdict
    )
    assert verdict in markdown and verdict in capsys.readouterr().out
    assert "tinybert (+0.5)" in verdict.partition("is not told apart from")[2]


def test_sections_of_a_plain_study(tmp_path: Path) -> None:
    assert titles_of(write_study(tmp_path)) == [
        "Compared with metakd", "Students and teachers by domain", "Ablations", "Score against size and time",
        "Training curves", "Reliability of the probabilities", "Confusion of classes",
        "If the shares of the classes were known", "Label suspects", "What the students start from, and notes",
        "How it was made",
    ]  # fmt: skip


def test_steps_that_cells_share_count_once() -> None:
    def cell(key: str, seed: int, **seconds: float) -> dict[str, Any]:
        return {"key": key, "cell": {"seed": seed}, "seconds": seconds}

    cells = [
        cell("a", 1, teacher=100.1, student=20.2, evaluation=3.0),
        cell("b", 1, teacher=100.1, student=21.3, evaluation=3.0),  # the same teacher, another evaluation
        cell("c", 2, teacher=100.1, evaluation=3.0),
        cell("a", 1, teacher=100.1, student=20.2, evaluation=3.0),  # one result of two cells
    ]
    assert seconds_of_steps(cells) == pytest.approx({"teacher": 200.2, "student": 41.5, "evaluation": 9.0})


def test_label_fractions_and_hidden_domains_have_sections(tmp_path: Path) -> None:
    study = write_study(tmp_path, fractions=(1.0, 0.1), exclude_domain=(False, True))
    report = study_report("x", read_results(study), [], "")
    sections = {section.title: section for section in report.sections}
    lines = {line.name: line for line in sections["Fewer labels"].pictures[0].series}  # type: ignore[attr-defined]
    assert lines["metakd"].x == [10.0, 100.0]
    assert lines["metakd"].y == pytest.approx([82.0, 86.0]) and lines["tfidf"].y == pytest.approx([70.0, 74.0])
    hidden = sections["Zero-shot"].pictures[0]
    assert isinstance(hidden, Dots) and hidden.title == "mean over domains"
    assert dict(zip(hidden.names, hidden.values, strict=True))["metakd"] == pytest.approx(80.0)
    zero_shot = write_study(tmp_path / "all hidden", exclude_domain=(True,))
    assert "Zero-shot: students and teachers by domain" in titles_of(zero_shot)


def test_scores_and_differences_by_hand(tmp_path: Path) -> None:
    report = study_report("x", read_results(write_study(tmp_path)), [], "")
    compared, by_domain, ablations = report.sections[:3]
    rows = {row[0]: row[1:3] for row in compared.tables[0].table.rows}
    assert rows["label_only"] == ["WORSE", "-6.0"] and rows["tfidf"] == ["WORSE", "-12.0"]
    assert rows["teacher of metakd"] == ["BETTER", "+4.0"] and rows["tinybert"] == ["NOT TOLD APART", "-0.5"]
    scores = {(row[0], row[1]): row[2] for row in by_domain.tables[0].table.rows}
    assert scores["mean over domains", "metakd"] == scores["books", "metakd"] == "86.0"
    assert report.series[0] == "metakd" and report.series[-2:] == ["majority", "tfidf"]
    assert [row[:2] for row in ablations.tables[0].table.rows] == [
        ["no_domain_loss", "teacher.domain_loss_weight: 0.5 → 0.0"],
    ]  # fmt: skip
    matrix = next(section for section in report.sections if section.title.startswith("Confusion")).pictures[0]
    assert isinstance(matrix, Matrix) and sum(map(sum, matrix.counts)) == 2 * 3 * 200
    assert matrix.counts[0][0] + matrix.counts[1][1] == round(0.86 * 1200)


def test_summary_of_a_study_by_hand(tmp_path: Path) -> None:
    headers, rows, text_columns = summary_table(StudyScores(read_results(write_study(tmp_path / "one"))))
    assert headers[:3] == ["method", "seeds", "mean"] and headers[4] == "minus metakd" and text_columns == 1
    by_name = {row[0]: row for row in rows}
    assert by_name["label_only"][1:3] == ["3", "80.0"] and by_name["label_only"][-3] == "-6.0"
    assert by_name["label_only"][-1] == "worse" and by_name["metakd"][-3:] == ["", "", ""]
    headers, rows, text_columns = summary_table(
        StudyScores(read_results(write_study(tmp_path / "x", fractions=(0.1, 1.0), seeds=(1,), tasks=("a", "b"))))
    )
    assert headers[:4] == ["task", "method", "labels, %", "seeds"] and text_columns == 2
    assert {tuple(row[:1] + row[2:4] + row[-1:]) for row in rows} == {
        (task, labels, "1", "") for task in "ab" for labels in ("10", "100")
    }


def test_folds_are_taken_together(tmp_path: Path) -> None:
    study = write_study(tmp_path, seeds=(1,), tasks=("fold_1", "fold_2", "fold_3", "fold_4"), folds=True)
    report = study_report("x", read_results(study), [], "")
    assert report.verdict.startswith("Over 4 folds, metakd is better than ") and "label_only (+6.0)" in report.verdict
    assert report.sections[0].title == "All folds together"
    headers, rows, _ = folds_table(fold_scores(StudyScores(read_results(study))))
    assert headers[:3] == ["method", "folds", "mean"] and headers[4] == "minus metakd"
    by_name = {row[0]: row for row in rows}
    assert by_name["label_only"][1:3] == ["4", "80.0"] and by_name["label_only"][4] == "-6.0"
    assert by_name["label_only"][-1] == "worse" and by_name["metakd"][-3:] == ["", "", ""]


def test_an_unfinished_fold_is_left_out(tmp_path: Path) -> None:
    study = write_study(tmp_path, seeds=(1,), tasks=("fold_1", "fold_2", "fold_3"), folds=True)
    gone = {"failed": {"step": "", "log": "", "message": ""}}
    edit_cell(study, {"task": "fold_2", "method": "metakd", "kind": "method", "domain": "films"}, gone)
    edit_cell(study, {"task": "fold_3", "method": "tinybert", "domain": "films"}, gone)
    section = study_report("x", read_results(study), [], "").sections[0]
    assert section.lines == ["unfinished, and left out: fold_2", "not run in all of these folds: tinybert"]
    by_name = {row[0]: row for row in section.tables[0].table.rows}
    assert by_name["metakd"][1] == "2" and "tinybert" not in by_name


def test_a_row_of_two_folds_is_refused(tmp_path: Path) -> None:
    study = write_study(tmp_path, seeds=(1,), tasks=("fold_1", "fold_2"), folds=True)
    results = read_results(study)
    for cell in results.cells:
        cell["rows"]["guid"] = ["same", *cell["rows"]["guid"][1:]]
    with pytest.raises(InputError, match="row 'same' of domain 'books' is a test row of fold_1 and of fold_2"):
        study_report("x", results, [], "")


def test_one_fold_is_not_taken_together(tmp_path: Path) -> None:
    report = study_report("x", read_results(write_study(tmp_path, seeds=(1,), folds=True)), [], "")
    assert report.verdict.startswith("One seed gives no verdict") and report.sections[0].title != "All folds together"


def test_one_seed_gives_no_verdict(tmp_path: Path) -> None:
    report = study_report("x", read_results(write_study(tmp_path, seeds=(7,))), [], "")
    assert report.verdict.startswith("One seed gives no verdict; metakd differs by +0.5 from tinybert, +6.0 from ")
    assert {row[1] for row in report.sections[0].tables[0].table.rows} == {"NOT TOLD APART"}
    assert "do not cover the luck of training" in report.sections[1].texts[0]


@pytest.mark.parametrize("problem", ["regression", "multi_label"])
def test_other_problem_types(tmp_path: Path, problem: str) -> None:
    results, generator = read_results(write_study(tmp_path, seeds=(1, 2), controls={})), np.random.default_rng(3)
    targets = generator.random((40, 1)) if problem == "regression" else generator.integers(0, 2, (40, 3))
    for cell in results.cells:
        values = np.clip(targets + generator.normal(0, 0.4, targets.shape), 0, 1)
        labels = targets[:, 0] if problem == "regression" else targets
        cell["rows"] |= {
            "label": labels.tolist(),
            "probabilities": values.tolist(),
            "guid": [str(i) for i in range(40)],
        }
        cell |= {"problem": problem, "teacher_probabilities": values.tolist()}
    report = study_report("x", results, [], "")
    assert "Confusion of classes" not in [section.title for section in report.sections]
    scores = {(row[0], row[1]): row[2] for row in report.sections[1].tables[0].table.rows}
    cells = [
        cell for cell in results.cells if (cell["cell"]["method"], cell["cell"]["domain"]) == ("tinybert", "books")
    ]
    by_seed = []
    for cell in cells:
        values = np.array(cell["rows"]["probabilities"])
        if problem == "regression":
            by_seed.append(spearmanr(values[:, 0], targets[:, 0]).statistic)
        else:
            by_seed.append(f1_score(targets, values > 0.5, average="micro"))
    assert scores["books", "tinybert"] == f"{100 * np.mean(by_seed):.1f}"


def test_missing_results_are_named(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    failure = {"step": "student runs/x", "log": "logs/x.log", "message": "MemoryError: <b>"}
    edit_cell(study, {"method": "tinybert", "domain": "films", "seed": 2}, {"failed": failure})
    report = study_report("x", read_results(study), [], "")
    sections = {section.title: section for section in report.sections}
    assert sections["Students and teachers by domain"].lines == [
        "reviews: left out, since results are missing: tinybert"
    ]
    assert "tinybert" not in report.verdict and "1 results are missing" in report.about[1]
    assert sections["What failed"].tables[0].table.rows == [
        ["student runs/x", "MemoryError: <b>", "logs/x.log", "reviews films seed 2 tinybert", "1"]
    ]
    edit_cell(study, {"method": "label_only"}, {"rows": {"guid": ["a"], "label": [0], "probabilities": [[1, 0]]}})
    with pytest.raises(InputError, match="hold different test rows of domain 'books' of task 'reviews'"):
        read_results(study)


def test_a_seed_that_was_just_started_is_left_out(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    for path in (study / "cells").iterdir():
        cell = json.loads(gzip.decompress(path.read_bytes()))["cell"]
        if cell["seed"] == 3 and cell["kind"] == "method" and cell["method"] != "metakd":
            path.unlink()
    results = read_results(study)
    found = results.comparable(results.settings[0])
    assert found.seeds == [1, 2] and found.left_out == ["seed 3"]
    assert [*found.series] == results.series
    assert all(part.seeds == [1, 2] for by_domain in found.series.values() for part in by_domain.values())
    cells = {tuple(cell["cell"][key] for key in ("method", "domain", "seed")): cell for cell in results.cells}
    assert found.series["label_only"]["films"].cells[1] is cells["label_only", "films", 2]
    assert {row[1] for row in summary_table(StudyScores(results)).rows} == {"2"}


def test_seeds_that_are_compared_by_hand() -> None:
    assert most_common([[1, 2, 3]] * 3, [1, 2, 3]) == {1, 2, 3}
    assert most_common([[1, 2, 3]] * 3 + [[1, 3]], [1, 2, 3]) == {1, 2, 3}  # 9 results, and 8 with seeds 1 and 3
    assert most_common([[1, 2, 3]] * 2 + [[1]] * 4, [1, 2, 3]) == {1, 2, 3}  # 6 results either way
    assert most_common([[1, 2]] + [[2]] * 3, [1, 2]) == {2}
    assert most_common([[1, 2], [2]], [1, 2]) == {2}  # the reference alone compares nothing
    assert most_common([[1, 2]], [1, 2]) == {1, 2}
    assert most_common([[]], []) == set()


def test_a_study_without_results_is_refused(tmp_path: Path) -> None:
    study = write_study(tmp_path, methods={"metakd": 0.9}, controls={}, domains=("a",), seeds=(1,))
    edit_cell(study, {"kind": "method"}, {"failed": {"step": "", "log": "", "message": ""}})
    with pytest.raises(InputError, match="no result of its reference 'metakd'"):
        _ = read_results(study).reference
    edit_cell(study, {"kind": "teacher"}, {"failed": {"step": "", "log": "", "message": ""}})
    with pytest.raises(InputError, match=r"no result \(2 cells failed\)"):
        read_results(study)


def write_table(path: Path, guids: Sequence[str], text: str) -> str:
    rows = [{"guid": guid, "text_a": text, "text_b": "", "label": "x", "domain": "d"} for guid in guids]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_text_from_data_is_escaped_and_cut(tmp_path: Path) -> None:
    guid = '"><img src=x onerror=alert(2)>'
    names = {
        "domains": (EVIL, "b & $x^2$ | c"),
        "labels": ("<i>no", "\x1b[31mzwei\u202e\ud83d\ude00"),
        "tasks": ("<b>t",),
    }
    methods = {"metakd": 0.8, "<svg onload=alert(3)>": 0.7, "m" * 5000: 0.75}
    table = str(tmp_path / "table.jsonl")
    study = write_study(tmp_path / "s", methods, guid=guid, table=table, rows=60, **names)
    cell = read_cells(study)[0]
    text = "<textarea><script>" + 25_000 * "\U0001f600"  # 100 kB
    write_table(tmp_path / "table.jsonl", cell["rows"]["guid"], text)
    without, _ = make_report(study)
    html, markdown = make_report(study, examples=True)
    assert "textarea" not in without and len(html) < len(without) + 100_000 < 600_000
    page = Page(html)
    assert (
        not {"script", "img", "textarea", "b>t"} & page.elements.keys()
        and page.elements["b"] == page.elements["figure"]
    )
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert any(text.startswith("<textarea><script>\U0001f600") and text.endswith("…") for text in page.texts["td"])
    assert any(EVIL in text for text in page.texts["b"]) and any("$x^2$" in text for text in page.texts["b"])
    assert guid + "-<b>t-" in page.texts["th"][-1] or any(guid in text for text in page.texts["th"])
    assert "\x1b" not in html + markdown and "mmmmmmmmmm…" in " ".join(page.texts["text"])
    assert EVIL not in markdown and "<textarea" not in markdown and "&lt;textarea&gt;" in markdown
    assert max(len(line) for line in markdown.splitlines()) < 20_000


def test_check_of_expected_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, check = write_study(tmp_path / "s"), tmp_path / "expected.yaml"
    check.write_text(
        "- {task: reviews, method: metakd, interval: [0.855, 0.865], value: 0.86}\n"
        "- {task: reviews, method: tfidf, domain: films, metric: ece, interval: [0.05, 0.05]}\n"
    )
    make_report(study, check=check)
    assert "all 2 expected scores were reached" in capsys.readouterr().out
    check.write_text(
        json.dumps([
            {"task": "reviews", "method": "metakd", "interval": [0.87, 0.9], "value": 0.88},
            {"task": "reviews", "method": "metakd", "domain": "books", "interval": [0.8, 0.9]},
            {"task": "reviews", "method": "metakd", "fraction": 0.5, "interval": [0, 1]},
            {"task": "reviews", "method": "teacher of metakd", "domain": "books", "interval": [0.0, 0.89]},
        ])
    )  # fmt: skip
    with pytest.raises(SystemExit) as exit_code:
        make_report(study, check=check)
    assert exit_code.value.code == 1
    assert capsys.readouterr().err.splitlines()[-4:] == [
        "3 of 4 expected scores were not reached:",
        "  reviews, metakd, mean over domains: accuracy 0.8600 is outside 0.8700 to 0.9000 (expected 0.8800)",
        "  reviews, metakd, mean over domains, 0.5 of the labels: accuracy: no result of it",
        "  reviews, teacher of metakd, books: accuracy 0.9000 is outside 0.0000 to 0.8900",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "is not a list of expected scores"),
        ("[1]", "entry 1 is 1"),
        ("[{task: a, method: b}]", "entry 1: interval is missing"),
        ("[{task: a, methd: b, interval: [0, 1]}]", "unknown field 'methd'.*did you mean 'method'"),
        ("[{task: a, method: b, interval: [1, 0]}]", r"interval is \[1, 0\]"),
        ("[{task: a, method: b, interval: 0.5}]", "interval is 0.5"),
        ("[", "expected.yaml"),
    ],
)
def test_wrong_expectations_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "expected.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_expectations(path)


def test_several_students_are_several_series(tmp_path: Path) -> None:
    study = write_study(tmp_path, methods={"metakd": 0.9}, controls=CONTROLS, domains=("a",))
    content = json.loads((study / "study.json").read_text())
    for entry in content["cells"]:
        if entry["cell"]["kind"] == "method" and entry["cell"]["seed"] > 1:
            entry["cell"] |= {"student": "text_cnn", "seed": 1}
    (study / "study.json").write_text(json.dumps(content))
    results = read_results(study)
    assert results.methods == ["metakd (layers 2, 4 of the teacher)", "metakd (text_cnn)"]
    assert results.reference == "metakd (layers 2, 4 of the teacher)"


def test_methods_that_share_a_teacher_share_its_scores(tmp_path: Path) -> None:
    study = write_study(tmp_path, domains=("a",))
    content = json.loads((study / "study.json").read_text())
    teachers = [entry for entry in content["cells"] if entry["cell"]["kind"] == "teacher"]
    content["cells"] += [{**entry, "cell": {**entry["cell"], "method": "tinybert"}} for entry in teachers]
    (study / "study.json").write_text(json.dumps(content))
    results = read_results(study)
    assert [name for name in results.series if "teacher" in name] == ["teacher of metakd, tinybert"]
    assert results.select(results.settings[0])["teacher of metakd, tinybert"]["a"].seeds == [1, 2, 3]


def test_the_study_file_beside_the_report_makes_the_same_study(tmp_path: Path) -> None:
    study = write_study(tmp_path, METHODS, fractions=(1.0, 0.1), select_by="macro_f1")
    html, markdown = make_report(study)
    assert read_yaml(study / "report/study.yaml", Study) == Study(
        ["reviews.yaml"], {name: StudyMethod(f"{name}.yaml") for name in METHODS}, "metakd",
        controls=["majority", "tfidf", "teacher"], seeds=[1, 2, 3], fractions=[1.0, 0.1], select_by="macro_f1",
    )  # fmt: skip
    command = f"python experiments/compare.py --study {study}/report/study.yaml --out {study}"
    assert command in html and command in markdown


def test_reliability_by_hand() -> None:
    confidence = np.array([0.95] * 10 + [0.92] * 10 + [0.61] * 9 + [1.0] * 0 + [0.55] * 20)
    right = np.array([True] * 10 + [False] * 10 + [True] * 9 + [True] * 5 + [False] * 15)
    x, y = reliability(confidence, right)  # 9 predictions between 0.6 and 0.7 are too few
    assert x == pytest.approx([0.55, 0.935]) and y == pytest.approx([0.25, 0.5])


def test_suspicious_rows_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.05, 0.95], [0.11, 0.89], [0.01, 0.99], [0.1, 0.9]])
    assert suspicious_rows(probabilities, np.array([0, 0, 0, 0, 0])).tolist() == [3, 1, 4]
    assert suspicious_rows(probabilities, np.array([1, 1, 1, 1, 1])).tolist() == [0]


def test_changed_values_in_words() -> None:
    stage = {"name": "prediction", "epochs": 10, "terms": [{"feature": "logits", "scale": 1.0}]}
    one = {"teacher": {"kind": "meta"}, "stages": [{"name": "first", "epochs": 5}, stage]}
    other = {"teacher": {"kind": "mix"}, "stages": [{**stage, "terms": [{"feature": "logits", "scale": 0.5}]}]}
    assert changed_values(one, other) == [
        "teacher.kind: meta → mix", "stages.prediction.terms.logits.scale: 1.0 → 0.5", "without stages.first",
    ]  # fmt: skip
    assert changed_values(one, one) == [] and changed_values(other, one)[-1] == "with stages.first"


def test_mean_of_curves_of_different_lengths() -> None:
    assert mean_of([[1.0, 2.0, 6.0], [3.0, 4.0]]) == [2.0, 3.0, 6.0]


def test_texts_are_cut_to_one_clean_line() -> None:
    assert shorten("a\n b\x00\x1bc", 20) == "a b c" and shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…" and shorten("a" + 10_000 * " " + "b", 6) == "a…"


PICTURES: list[Picture] = [
    Dots("t", "b", "x", names=["a", "b", "c"], values=[1.0, None, 9.0], intervals=[(0.5, 1.5), None, None],
         single_values=[[1.0, 1.1], [], []], limits=(0.0, 5.0)),
    Curves("t", "b", "x", "y", series=[Series("a", [1, 2], [1.0, None], [0.5, None], [1.5, None])], diagonal=True),
    Curves("t", "b", "x", "y", series=[Series("a", [1, 10, 100], [1.0, 2.0, 3.0])], x_ticks=[1, 10, 100], log_x=True),
    Histogram("t", "b", "x", "rows", edges=[0.0, 0.5, 1.0], counts=[3, 4], mean=0.4),
    Points("t", "b", "x", "y", series=[Series("a", [1.0, 2.0], [1.0, 2.0])], large=True),
    Points("t", "b", series=[Series("a", [1.0, 2.0], [1.0, 2.0])], ticks=False),
    Matrix("t", "b", "x", rows=["a", "b"], columns=["a", "b"], counts=[[3, 1], [0, 0]]),
]  # fmt: skip


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: type(picture).__name__)
def test_pictures_take_the_colours_of_the_page(picture: Picture) -> None:
    svg = draw(picture, {"a": 0, "b": 1, "c": 10}, "p1-")
    assert svg == draw(picture, {"a": 0, "b": 1, "c": 10}, "p1-")
    assert "#0000" not in svg and "var(--ink)" in svg + "var(--ink)" * (type(picture) in (Curves, Points))
    assert 'width="340"' in svg and "font-family" not in svg and "<metadata" not in svg
    page = Page(svg)
    assert page.texts["title"] == ["t"] and len(page.texts["desc"]) == 1
    assert all(name.startswith("p1-") for name in page.ids)
    references = [value for name, value in page.attributes if name == "href"]
    assert set(references) <= {f"#{name}" for name in page.ids}


def test_a_picture_as_a_file_brings_its_colours_and_legend() -> None:
    svg = draw_file(PICTURES[1], ["a", "<b>"])
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and svg == draw_file(PICTURES[1], ["a", "<b>"])
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a", "<b>"} <= set(texts)
    style = root.findtext("{http://www.w3.org/2000/svg}style") or ""
    assert set(re.findall(r"var\((--\w+)\)", svg)) <= set(re.findall(r"(--\w+):", style)) and "dark" in style


def test_values_of_a_picture_in_words() -> None:
    descriptions = [picture.describe() for picture in PICTURES]
    assert descriptions == [
        "a 1.0 (0.5 to 1.5); c 9.0", "a 1 at 1", "a 1 at 1, 3 at 100", "7 values from 0.00 to 1.00, mean 0.400",
        "a 1.0 at 1; a 2.0 at 2", "2 rows a",
        "a predicted as a: 3; a predicted as b: 1; b predicted as a: 0; b predicted as b: 0",
    ]  # fmt: skip


def test_64_names_look_different() -> None:
    assert len({look(number) for number in range(64)}) == 64


@pytest.mark.parametrize(
    ("verdict", "low", "seeds", "expected"),
    [
        ("NOT TOLD APART", 0.001, 3, True),
        ("NOT TOLD APART", -0.001, 3, False),
        ("BETTER", 0.001, 3, False),
        ("NOT TOLD APART", 0.001, 1, False),
    ],
)
def test_an_interval_that_leaves_out_0_without_a_verdict_is_explained(
    verdict: Verdict, low: float, seeds: int, expected: bool
) -> None:
    comparison = Comparison("m", "d", 0.01, low, 0.02, 0.03, 0.09, verdict, 0.02, seeds, 100)
    assert only_alone(comparison) == expected


def test_domains_with_classes_of_their_own_are_pooled_by_name() -> None:
    """Two domains that share the class `b` and number it differently."""
    parts = {
        "one": (["a", "b"], [0, 1, 1], [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]),
        "two": (["b", "c", "d"], [0, 2], [[0.5, 0.3, 0.2], [0.1, 0.7, 0.2]]),
    }
    found = pooled({
        domain: DomainResults(
            [{"problem": "single_label", "labels": labels, "rows": {"label": targets, "probabilities": values}}], [1]
        )
        for domain, (labels, targets, values) in parts.items()
    })  # fmt: skip
    assert found.classes == ["a", "b", "c", "d"]
    assert found.labels.tolist() == [0, 1, 1, 1, 3] and found.predicted.tolist() == [0, 0, 1, 1, 2]
    assert found.confidence.tolist() == [0.9, 0.6, 0.8, 0.5, 0.7]
