"""Few-shot and zero-shot: no hidden label reaches prototypes, teacher or student; weights that know one are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from metakd.config import Task
from metakd.data.tables import read_rows
from metakd.errors import InputError
from tests.conftest import (
    CUT_FROM_PRETRAINED,
    Tables,
    distill,
    make_task,
    read_history,
    read_method,
    script,
    train_teacher,
)

HIDDEN = "has a weight, but its label is hidden"
Weigh = Callable[..., Task]


@pytest.fixture
def weigh(tmp_path: Path, tables: Tables, pretrained: Path) -> Weigh:
    """Compute prototype weights for a selection of labels, and return the task with the weighted table."""
    task, method, embeddings = make_task(tables, pretrained, CUT_FROM_PRETRAINED), read_method(), tmp_path / "e"
    script("data_prep/extract_embeddings.py").main(task=task, method=method, out=embeddings)

    def make_table(name: str, **selection: object) -> Task:
        out = tmp_path / f"{name}.tsv"
        script("data_prep/prototype_weights.py").main(
            task=task, method=method, embeddings=embeddings, out=out, **selection
        )
        return make_task({**tables, "train": out}, pretrained, CUT_FROM_PRETRAINED)

    return make_table


def weighted_rows(task: Task) -> list[str]:
    """Domain of each row that has a weight."""
    return [row["domain"] for row in read_rows(task.train) if row["weight"] is not None]


def test_zero_shot(tmp_path: Path, tables: Tables, weigh: Weigh, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    task = weigh("weighted", exclude_domain="books")
    assert sorted(weighted_rows(task)) == 16 * ["films"] + 16 * ["phones"]
    teacher = train_teacher(tmp_path, task, exclude_domain="books", allow_weak=True)
    assert json.loads((teacher / "metakd.json").read_text())["domains"] == ["films", "phones"]
    assert "trained on 32 labelled rows of 48: films, phones" in caplog.text
    with pytest.raises(InputError, match=r"weighted\.tsv: row 1 has no weight \(16 rows have none\)"):
        train_teacher(tmp_path, task, out=tmp_path / "x")

    options, method = {"teacher": str(teacher), "domain": "books", "fraction": 0.0}, read_method()
    with pytest.raises(InputError, match=r"weighted\.tsv has no labelled rows of domain books"):
        distill(tmp_path / "x", task, method, **options)
    for stage in method.stages:
        stage.rows = ["unlabelled"]
    distill(tmp_path / "own", task, method, **options)
    assert "rows: 16 (unlabelled), 0 with label" in caplog.text
    assert "for 16 rows without label, the teacher's confidence replaces prototype score and p(y)" in caplog.text
    for stage in method.stages:
        stage.rows = ["unlabelled", "other_domains"]
    distill(tmp_path / "all", task, method, **options)
    assert "rows: 48 (unlabelled, other_domains), 32 with label" in caplog.text
    distill(tmp_path / "few", task, read_method("new_domain"), **{**options, "fraction": 0.2})
    assert "rows: 16 (labelled, unlabelled), 4 with label" in caplog.text


def test_few_shot(tmp_path: Path, weigh: Weigh, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    options = {"domain": "books", "fraction": 0.2}
    task = weigh("weighted", **options)
    assert sorted(weighted_rows(task)) == 4 * ["books"] + 16 * ["films"] + 16 * ["phones"]
    teacher = train_teacher(tmp_path, task, **options, allow_weak=True)
    assert "trained on 36 labelled rows of 48: books, films, phones" in caplog.text
    # Whoever sees few labels of a domain does not choose by its dev labels either.
    assert read_history(teacher)["epochs"][0]["dev"].keys() == {"score", "films", "phones"}
    distill(tmp_path / "s", task, read_method(), teacher=str(teacher), **options)
    assert "dev" not in read_history(tmp_path / "s")["prediction"]["epochs"][-1]
    assert "rows: 4 (labelled), 4 with label" in caplog.text
    assert "each stage saves its last epoch, since dev labels of books are hidden too" in caplog.text


def test_a_single_teacher_with_few_labels_saves_its_last_epoch(
    tmp_path: Path, tables: Tables, pretrained: Path
) -> None:
    task, method = make_task(tables, pretrained, CUT_FROM_PRETRAINED), read_method("multi_teacher", 2)
    history = read_history(train_teacher(tmp_path, task, method, domain="books", fraction=0.2))
    assert history["best"] is None and history["beats_baseline"] is None
    assert [list(epoch) for epoch in history["epochs"]] == [["epoch", "losses"]] * 2


def test_weights_that_know_hidden_labels_are_refused(tmp_path: Path, weigh: Weigh, meta_teacher: Path) -> None:
    task, out = weigh("whole"), tmp_path / "x"
    few, none = {"domain": "books", "fraction": 0.2}, {"domain": "books", "fraction": 0.0}
    for selection in (few, none, {"exclude_domain": "books"}):
        with pytest.raises(InputError, match=HIDDEN):
            train_teacher(tmp_path, task, out=out, **selection)
    everywhere = read_method()
    for stage in everywhere.stages:
        stage.rows = ["labelled", "unlabelled", "other_domains"]
    for method, selection in ((read_method(), few), (everywhere, few), (everywhere, none)):
        with pytest.raises(InputError, match=HIDDEN):
            distill(out, task, method, teacher=str(meta_teacher), **selection)
    other_labels = weigh("seed_1", **few)  # another seed shows other labels
    other_labels.training.seed = 2
    with pytest.raises(InputError, match=f"{HIDDEN}|has no weight"):
        train_teacher(tmp_path, other_labels, out=out, **few)
    assert not out.exists()


def test_selections_that_make_no_sense(tmp_path: Path, weigh: Weigh) -> None:
    with pytest.raises(InputError, match=r"fraction is 0\.2, but of no domain"):
        weigh("x", fraction=0.2)
    with pytest.raises(InputError, match=r"exclude_domain is 'book'.*did you mean 'books'"):
        weigh("x", exclude_domain="book")
    task = weigh("weighted")
    with pytest.raises(InputError, match="domain and exclude_domain are both 'books'"):
        train_teacher(tmp_path, task, domain="books", fraction=0.2, exclude_domain="books")
