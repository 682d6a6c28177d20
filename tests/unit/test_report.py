"""Reports of hand-made runs: evaluations, manifests and models whose numbers are known."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from metakd.errors import InputError
from metakd.evaluation.document import Table, titled_list, to_console, to_markdown
from metakd.evaluation.lineage import code_blocks, steps_behind
from metakd.evaluation.model_facts import model_facts
from metakd.evaluation.report import domains_table, methods_blocks, methods_table, read_students, summarise
from tests.conftest import script

CODE = {"version": "0.1.0", "commit": "c" * 40, "clean": True, "source": "0123456789abcdef"}
ACCURATE = {"accuracy": 0.75, "accuracy_95": [0.5, 0.875], "macro_f1": 0.7, "majority": 0.6}
TAGGED = {"micro_f1": 0.5, "macro_f1": 0.25, "all_right": 0.1}
NUMBERED = {"spearman": 0.8, "pearson": 0.7, "rmse": 1.5}


class Run:
    """A run folder to fill with finished steps; each new one ends a second after the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, 1_700_000_000

    def step(self, name: str, inputs: dict[str, object] | None = None, content: str = "", **manifest: Any) -> Path:
        """A finished step whose output is a file (where the name has a suffix) or a folder."""
        out = self.folder / name
        path = out.with_name(f"{out.name}.manifest.json") if out.suffix else out / "manifest.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix:
            out.write_text(content)
        manifest = {
            "made_by": "distill.py", "seconds": 12.4, "peak_memory_mb": 300, "code": CODE, "versions": {}, **manifest,
            "input_paths": {role: str(path) for role, path in (inputs or {}).items()},
        }  # fmt: skip
        path.write_text(json.dumps(manifest))
        self.clock += 1
        os.utime(path, (self.clock, self.clock))
        return out

    def evaluation(
        self,
        name: str,
        domain: str = "books",
        scores: dict[str, Any] = ACCURATE,
        method: str = "metakd",
        seed: int = 1,
        **facts: Any,
    ) -> Path:
        """An evaluation of a student of its own, beside a teacher that is right in every row."""
        resolved = {"task": {"training": {"seed": seed}}, "method_name": method}
        student = self.step(f"students/{name}", resolved=resolved)
        perfect = {"accuracy": 1.0, "accuracy_95": [0.9, 1.0]}
        teacher = {metric: perfect.get(metric, 1.0) for metric in scores}
        sizes = {"rows": 8, "parameters": 2_000_000, "size_bytes": 8_000_000}
        content = {
            "table": "test.tsv", "domain": domain, "agreement": 0.5,
            "model": {**scores, **sizes, "path": str(student), **facts},
            "teacher": {**teacher, **sizes, "parameters": 4_000_000, "size_bytes": 16_000_000, "path": "teacher"},
        }  # fmt: skip
        inputs = {"model": student, "table": "test.tsv"}
        return self.step(f"{name}.json", inputs, json.dumps(content), made_by="evaluate.py")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


def test_classification_table_by_hand(run: Run) -> None:
    better = {**ACCURATE, "accuracy": 0.25, "macro_f1": 0.2}
    paths = [run.evaluation("a", "books"), run.evaluation("b", "", better)]
    headers, rows, _ = domains_table(summarise(read_students(paths), []))
    assert headers == [
        "domain", "test rows", "majority", "teacher accuracy", "student accuracy", "teacher macro-F1",
        "student macro-F1", "agreement", "parameters", "size",
    ]  # fmt: skip
    sizes = ["50.0", "4.0 to 2.0 M", "16 to 8 MB"]
    assert rows == [
        ["books", "8", "60.0", "100.0 [90.0, 100.0]", "75.0 [50.0, 87.5]", "100.0", "70.0", *sizes],
        ["all domains", "8", "60.0", "100.0 [90.0, 100.0]", "25.0 [50.0, 87.5]", "100.0", "20.0", *sizes],
        ["mean", "", "", "100.0", "50.0", "100.0", "45.0", "", "", ""],
    ]


@pytest.mark.parametrize(
    ("scores", "titles", "student"),
    [
        (TAGGED, ["teacher micro-F1", "student micro-F1", "teacher macro-F1", "student macro-F1"], ["50.0", "25.0"]),
        (NUMBERED, ["teacher Spearman", "student Spearman"], ["80.0"]),
    ],
)
def test_other_problem_types_have_columns_of_their_own(
    run: Run, scores: dict[str, Any], titles: list[str], student: list[str]
) -> None:
    path = run.evaluation("a", scores=scores)
    headers, rows, _ = domains_table(summarise(read_students([path]), []))
    assert headers == ["domain", "test rows", *titles, "agreement", "parameters", "size"]
    assert rows[0][3 : 3 + 2 * len(student) : 2] == rows[1][3 : 3 + 2 * len(student) : 2] == student
    script("experiments/report.py").main(out=run.folder, evaluations=str(path))
    assert "Wilson" not in (run.folder / "report.md").read_text()


def test_markdown_escapes_text_and_console_does_not() -> None:
    table = Table(["name", "value"], [["<b>a|b</b> & c", "1.50"], ["two\r\nlines\x0band three", "10"]])
    lines = to_markdown([table, ["<i>|"], "a <p>"]).splitlines()
    assert lines == [
        "| name                                |   value |",
        "|:------------------------------------|--------:|",
        "| &lt;b&gt;a&#124;b&lt;/b&gt; &amp; c |    1.50 |",
        "| two lines and three                 |      10 |",
        "",
        "- &lt;i&gt;&#124;",
        "",
        "a &lt;p&gt;",
    ]
    assert "<b>a|b</b> & c" in to_console([table]) and "two lines and three" in to_console([table])


def test_equal_texts_share_a_line() -> None:
    pairs = [("a", "x"), ("b", "y"), ("c", "x"), ("c", "x"), ("d", "")]
    assert titled_list("Notes:", pairs) == ["Notes:", ["a, c: x", "b: y"]]
    assert titled_list("Notes:", [("d", "")]) == []


def test_steps_behind_an_evaluation(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.folder.parent)
    run.step("tables", made_by="tables.py")
    (run.folder / "tables/train.tsv").touch()
    weights = run.step("train.weighted.tsv", {"table": run.folder / "tables/train.tsv"}, made_by="weights.py")
    run.step("other", {"train": weights})  # nothing below was made from it
    teacher = run.step("teacher", {"train": "run/train.weighted.tsv", "model": "some/hub-name"})
    student = run.step("students/a", {"train": weights, "teacher": teacher}, seconds=99.0, peak_memory_mb=7)
    evaluation = run.step("students/a.json", {"model": student, "teacher": teacher}, made_by="evaluate.py")
    steps = steps_behind([evaluation, evaluation], run.folder)
    names = ["tables", "train.weighted.tsv", "teacher", "students/a", "students/a.json"]
    assert [step["name"] for step in steps] == names
    assert steps[3] == {
        "name": "students/a", "made_by": "distill.py", "seconds": 99.0, "peak_memory_mb": 7, "code": CODE,
    }  # fmt: skip
    assert [step["name"] for step in steps_behind([weights], run.folder / "students")] == [
        "../tables", "../train.weighted.tsv",
    ]  # fmt: skip


def test_a_manifest_that_no_step_wrote_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "some web page"}')
    (tmp_path / "test.tsv").touch()
    assert steps_behind([tmp_path / "test.tsv", tmp_path / "missing.tsv"], tmp_path) == []


def step_record(name: str, made_by: str = "distill.py", **changes: object) -> dict[str, Any]:
    return {"name": name, "made_by": made_by, "code": {**CODE, **changes}}


def test_the_same_code_is_named_once() -> None:
    scripts = [step_record("a", script="1"), step_record("b", script="1"), step_record("c", "evaluate.py", script="2")]
    (line,) = code_blocks([*scripts, step_record("d", "report.py", commit="d" * 40)])  # of equal source
    assert isinstance(line, str) and "0.1.0" in line and CODE["source"] in line


@pytest.mark.parametrize("change", [{"source": "f" * 16}, {"script": "f" * 16, "commit": "d" * 40}])
def test_different_code_is_listed_by_step(change: dict[str, Any]) -> None:
    title, lines = code_blocks([step_record("a"), step_record("b", **change), step_record("c")])
    assert isinstance(title, str) and title.startswith("WARNING: different code")
    assert [line.partition(":")[0] for line in lines] == ["a, c", "b"]


def test_code_that_is_not_known_differs_from_code_that_is() -> None:
    title, lines = code_blocks([step_record("a"), {**step_record("b"), "code": None}])
    assert isinstance(title, str) and title.startswith("WARNING") and lines[1] == "b: unknown code"


def test_methods_table_by_hand(run: Run) -> None:
    paths = [
        run.evaluation("label_only/books", method="label_only", starts_from="layers 2, 4 of MiniLM"),
        run.evaluation("books", method="vanilla", scores={**ACCURATE, "accuracy": 0.5}),
        run.evaluation("general/books", method="vanilla"),
    ]
    headers, rows, _ = methods_table(read_students(paths))
    assert headers == ["method", "starts from", "accuracy", "macro-F1", "agreement with the teacher", "seconds"]
    good = "75.0 [50.0, 87.5]"
    assert rows == [
        ["(the teacher)", "", "100.0 [90.0, 100.0]", "100.0", "", ""],
        ["label_only", "layers 2, 4 of MiniLM", good, "70.0", "50.0", "12"],
        [f"vanilla ({paths[1]})", "", "50.0 [50.0, 87.5]", "70.0", "50.0", "12"],
        [f"vanilla ({paths[2]})", "", good, "70.0", "50.0", "12"],
    ]


def test_a_method_without_a_name_is_called_like_its_file(run: Run) -> None:
    assert read_students([run.evaluation("tinybert", method="")])[0].method == "tinybert"


def test_methods_report_names_seeds_notes_and_code(run: Run) -> None:
    paths = [
        run.evaluation("metakd", method="metakd", notes=["the teacher was not trained as the method says"]),
        run.evaluation("vanilla", method="vanilla", seed=2),
    ]
    out = run.folder / "compare" / "books.md"
    script("experiments/methods_report.py").main(out=out, evaluations=",".join(map(str, paths)))
    text = out.read_text()
    assert "Domain books, 8 test rows, seeds 1, 2." in text
    assert "- metakd: the teacher was not trained as the method says\n" in text
    assert "\nCode: metakd 0.1.0" in text


def test_methods_of_different_rows_are_not_compared(run: Run) -> None:
    students = read_students([run.evaluation("a", "books"), run.evaluation("b", "films")])
    with pytest.raises(InputError, match=r"a\.json and .*b\.json evaluate different rows: .*'books' and 'films'"):
        methods_blocks(students, [])


def test_report_of_a_run(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"starts_from": "layers 2, 4 of the teacher", "notes": ["weights of <other> rows"]}
    paths = [run.evaluation("books", "books", **facts), run.evaluation("films", "films", seed=3, **facts)]
    script("experiments/report.py").main(out=run.folder / "report", evaluations=",".join(map(str, paths)))
    results = json.loads((run.folder / "report/results.json").read_text())
    assert [evaluation["domain"] for evaluation in results["domains"]] == ["books", "films"]
    assert results["settings"]["resolved"]["task"]["training"]["seed"] == 1 and results["seeds"] == [1, 3]
    assert results["mean_over_domains"]["model_accuracy"] == 0.75
    assert [step["name"] for step in results["steps"]] == [
        "students/books", "books.json", "students/films", "films.json",
    ]  # fmt: skip
    text, console = (run.folder / "report/report.md").read_text(), capsys.readouterr().out
    assert text.startswith("# Results\n\nMethod metakd, seeds 1, 3, ")
    assert "- books, films: layers 2, 4 of the teacher\n" in text and "| films.json     |        12 |" in text
    assert "- books, films: weights of &lt;other&gt; rows" in text
    assert "- books, films: weights of <other> rows" in console and "|" not in console


def test_a_student_without_one_teacher_has_no_teacher_columns(run: Run) -> None:
    path = run.evaluation("books")
    content = json.loads(path.read_text())
    del content["teacher"], content["agreement"]
    path.write_text(json.dumps(content))
    results = summarise(read_students([path]), [])
    headers, rows, _ = domains_table(results)
    assert headers == ["domain", "test rows", "majority", "student accuracy", "student macro-F1", "parameters", "size"]
    assert rows[0] == ["books", "8", "60.0", "75.0 [50.0, 87.5]", "70.0", "2.0 M", "8 MB"]
    assert rows[1] == ["mean", "", "", "75.0", "70.0", "", ""]
    _, rows, _ = methods_table(read_students([path]))
    assert [row[0] for row in rows] == ["metakd"] and rows[0][-2:] == ["", "12"]


def test_what_cannot_be_reported_on_is_refused(run: Run, tmp_path: Path) -> None:
    good = run.evaluation("good")
    with pytest.raises(InputError, match=r"none\.json: no such file"):
        read_students([good, tmp_path / "none.json"])
    with pytest.raises(InputError, match="different problem types"):
        read_students([good, run.evaluation("numbers", scores=NUMBERED)])
    content = json.loads(good.read_text())
    foreign = tmp_path / "foreign.json"
    for change, message in (
        ({"model": {**content["model"], "path": str(tmp_path / "nowhere")}}, "says how the student was trained"),
        ({"model": None}, "not an evaluation"),
    ):
        changed = {name: value for name, value in {**content, **change}.items() if value is not None}
        foreign.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=message):
            read_students([foreign])
    foreign.write_text("not JSON")
    with pytest.raises(InputError, match=r"foreign\.json was changed after it was finished, or is damaged"):
        read_students([foreign])


def test_facts_of_a_model(run: Run, tmp_path: Path) -> None:
    folder = run.step("student")
    (folder / "model.safetensors").write_bytes(b"12345")
    (folder / "domain_head.safetensors").write_bytes(b"not a weight of the model")
    assert model_facts(folder) == {"path": str(folder), "size_bytes": 5, "code": CODE}
    info = {"domains": ["books"], "max_length": 8, "recipe": {}, "starts_from": "random weights", "notes": ["a note"]}
    (folder / "metakd.json").write_text(json.dumps(info))
    facts = model_facts(folder)
    assert (facts["starts_from"], facts["notes"]) == ("random weights", ["a note"])
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    assert model_facts(foreign) == {"path": str(foreign), "size_bytes": 0}
