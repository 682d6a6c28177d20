"""Bad input is refused before any long work, with the place and the remedy, and what was there stays."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from metakd.config import MetaTeacher, StudentFromTeacher, Task, Training, folder_name
from metakd.data.labels import Labels
from metakd.data.tables import read_rows, write_rows
from metakd.errors import InputError
from metakd.models.classifier import labels_of, load_classifier, load_config
from tests.conftest import make_rows, make_tokenizer, run_script, script
from tests.pipeline.test_families import Tables, method, task, train_teacher


def test_embeddings_of_another_table(tmp_path: Path, tables: Tables, encoder: Callable[..., Path]) -> None:
    prototypes, folder = script("data_prep/prototype_weights.py").main, tmp_path / "embeddings"
    script("data_prep/extract_embeddings.py").main(
        model=str(encoder()), table=tables["train"], out=folder, max_length=32
    )  # fmt: skip
    with pytest.raises(InputError, match=r"was made from another table than .*dev\.tsv"):
        prototypes(table=tables["dev"], embeddings=folder, out=tmp_path / "w.tsv")
    with pytest.raises(InputError, match=r"has no manifest\.json; make it with extract_embeddings\.py"):
        prototypes(table=tables["dev"], embeddings=tmp_path / "none", out=tmp_path / "w.tsv")
    assert not (tmp_path / "w.tsv").exists()


def test_a_table_without_weights(tmp_path: Path, tables: Tables, encoder: Callable[..., Path]) -> None:
    write_rows(tables["train"], make_rows(48))
    made = task(tables, encoder(), StudentFromTeacher(2))
    with pytest.raises(InputError, match=r"train\.tsv has no weight column; make it with .*prototype_weights"):
        train_teacher(tmp_path, made)
    teacher = train_teacher(tmp_path, made, meta=MetaTeacher(row_weight="uniform"))
    with pytest.raises(InputError, match=r"train\.tsv has no weight column; make it with"):
        script("experiments/distill.py").main(
            task=made, method=method(), teacher=teacher, domain="books", out=tmp_path / "s"
        )  # fmt: skip


def test_names_that_are_not_there(tmp_path: Path, tables: Tables, encoder: Callable[..., Path]) -> None:
    made = task(tables, encoder(), StudentFromTeacher(2))
    teacher = train_teacher(tmp_path, made)
    distill = script("experiments/distill.py").main

    def refused(part: str, **changes: object) -> None:
        arguments = {"task": made, "method": method(), "teacher": teacher, "domain": "books", "out": tmp_path / "s"}
        with pytest.raises(InputError, match=part):
            distill(**{**arguments, **changes})
        assert not (tmp_path / "s").exists()

    refused("the task's domains are .*; did you mean 'films'", domain="film")
    refused("the method's stages are .*; did you mean 'prediction'", stage="predicton")
    refused(
        "no stage 'predict' among .*did you mean 'prediction'", task=task(tables, teacher, "x", epochs={"predict": 1})
    )
    refused("has no trained classifier, so no logits", teacher=tmp_path / "encoder")
    other = task(tables, teacher, StudentFromTeacher(2), labels=["negative", "neutral"])
    refused(r"classifies \['negative', 'positive'\], wanted are", task=other)
    gone = task({**tables, "dev": tmp_path / "gone.tsv"}, teacher, StudentFromTeacher(2))
    refused(r"task.dev: no file '.*gone.tsv'", task=gone)
    long = task(tables, teacher, str(tmp_path / "encoder"), max_length=80)
    refused("has 66 positions, max_length is 80", task=long)


def test_a_bad_row_is_found_before_training(tmp_path: Path, tables: Tables, encoder: Callable[..., Path]) -> None:
    rows = list(read_rows(tables["dev"]))
    rows[4]["label"] = "posiitve"
    write_rows(tables["dev"], rows)
    made = task(tables, encoder(), StudentFromTeacher(2))
    with pytest.raises(InputError, match=r"dev\.tsv, row 5, field 'label': 'posiitve' .* did you mean 'positive'"):
        train_teacher(tmp_path, made)
    assert not (tmp_path / ".teacher.scratch").exists()


def test_label_order_does_not_matter(tmp_path: Path, tables: Tables, encoder: Callable[..., Path]) -> None:
    """Labels are matched by name: a student with a head in another order learns the same classes."""
    made = task(tables, encoder(), StudentFromTeacher(2), labels=["positive", "negative"], epochs={"teacher": 30})
    teacher = train_teacher(tmp_path, made)
    assert labels_of(load_config(str(teacher))).names == ("positive", "negative")
    fresh = load_classifier(str(encoder("other", layers=2)), Labels(("negative", "positive")))
    fresh.save_pretrained(tmp_path / "reversed")
    make_tokenizer().save_pretrained(tmp_path / "reversed")
    quick = method()
    quick.stages[1].learning_rate, quick.stages[1].select = 3e-3, "last"
    starts = {"reversed": (str(tmp_path / "reversed"), "negative"), "cut": (StudentFromTeacher(2), "positive")}
    for labels in (None, ["positive", "negative"]):
        for name, (start, first) in starts.items():
            out = tmp_path / f"{name}-{labels is None}"
            second = task(tables, teacher, start, labels=labels, epochs={"intermediate": 1, "prediction": 40})
            second.training = Training(batch_size=4)
            script("experiments/distill.py").main(task=second, method=quick, teacher=teacher, domain="books", out=out)
            assert labels_of(load_config(str(out))).names[0] == first  # each keeps its own order
            script("experiments/evaluate.py").main(
                model=out, teacher=teacher, table=tables["train"], domain="books", out=tmp_path / f"{out.name}.json"
            )  # fmt: skip
            # Below 0.2 if the order were mixed up.
            assert json.loads((tmp_path / f"{out.name}.json").read_text())["agreement"] > 0.8


def test_scripts_end_with_the_message_alone(tmp_path: Path, tables: Tables) -> None:
    task_file = tmp_path / "task.yaml"
    task_file.write_text(
        f"train: {tables['train']}\ndev: {tables['dev']}\ntest: {tmp_path}/none.tsv\nteacher: t\nstudent: s\n"
    )
    done = run_script(tmp_path, "experiments/check_task.py", "--task", task_file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: task.test: no file") and "Traceback" not in done.stderr
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter.txt").write_text("words")
    done = run_script(
        tmp_path, "data_prep/extract_embeddings.py", "--model", "m", "--table", tables["dev"], "--out", precious
    )  # fmt: skip
    assert done.returncode == 2 and "has no manifest.json" in done.stderr
    assert [p.name for p in precious.iterdir()] == ["chapter.txt"]


def test_shell_variables_survive_odd_names(tmp_path: Path, encoder: Callable[..., Path]) -> None:
    folder = tmp_path / "my $HOME `x`"
    folder.mkdir()
    rows = [{**row, "domain": 'it\'s "odd"'} for row in make_rows(6)]
    paths = [folder / f"{name}.tsv" for name in ("train", "dev", "test")]
    for path in paths:
        write_rows(path, rows)
    options = [f"--task.{name}={path}" for name, path in zip(("train", "dev", "test"), paths, strict=True)]
    done = run_script(
        tmp_path, "experiments/check_task.py", *options, "--task.teacher", "t", "--task.student", "s"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shell = subprocess.run(
        ["bash", "-c", done.stdout + '\nprintf "%s|" "$TRAIN" "${DOMAINS[@]}"'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shell.stdout == f'{paths[0]}|it\'s "odd"|'


def test_what_can_be_known_first_is_refused_first(
    tmp_path: Path, tables: Tables, encoder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    check, folder = script("experiments/check_task.py").main, encoder()
    fine = task(tables, folder, StudentFromTeacher(2))
    check(task=fine, method=method())
    assert "DOMAINS=(books films phones)" in capsys.readouterr().out

    def refused(part: str, made: Task = fine, **options: object) -> None:
        with pytest.raises(InputError, match=part):
            check(task=made, **{"method": method(), **options})
        assert capsys.readouterr().out == ""

    refused("3 does not divide 4", task(tables, folder, StudentFromTeacher(3)))
    refused("no model could be loaded from 'nowhere'", task(tables, folder, "nowhere"))
    refused("no stage 'techer' among .*did you mean 'teacher'", task(tables, folder, "x", epochs={"techer": 1}))
    refused("domain 'flims' is not among .*did you mean 'films'", genres="books flims")
    wrong = method()
    wrong.stages[1].terms[0].loss = "soft_crossentropy"
    refused("'soft_crossentropy' does not fit feature 'logits'.*did you mean 'soft_cross_entropy'", method=wrong)
    write_rows(tables["test"], [row for row in read_rows(tables["test"]) if row["domain"] != "phones"])
    refused(r"test\.tsv has no row of domain 'phones'")
    check(task=fine, method=method(), genres="books films")


def test_inner_features_need_one_tokenizer(tmp_path: Path, tables: Tables, encoder: Callable[..., Path]) -> None:
    epochs = {"teacher": 12, "intermediate": 1}
    made = task(tables, encoder(), str(encoder("other", layers=2)), epochs=epochs)
    teacher = train_teacher(tmp_path, made)
    path = tmp_path / "other" / "tokenizer.json"
    state = json.loads(path.read_text())
    words = state["model"]["vocab"]
    words["good"], words["bad"] = words["bad"], words["good"]
    path.write_text(json.dumps(state))
    only = method()
    only.stages = [only.stages[0]]
    only.stages[0].terms = [term for term in only.stages[0].terms if term.feature == "transferable"]
    for chosen in (method(), only):
        with pytest.raises(InputError, match="must share a tokenizer"):
            script("experiments/distill.py").main(
                task=made, method=chosen, teacher=teacher, domain="books", out=tmp_path / "s"
            )  # fmt: skip


def test_folders_of_domains_are_plain_and_different() -> None:
    assert folder_name("books") == "books" and folder_name("nyt_2") == "nyt_2"
    odd = ["a b", "a/b", "a_b", "../a", "日本", "中国", "-x", "."]
    names = [folder_name(name) for name in odd]
    assert len(set(names)) == len(odd)
    assert all("/" not in name and not name.startswith((".", "-")) for name in names)
