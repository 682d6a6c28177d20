"""Bad input is refused before any long work, with the place and the remedy; existing files stay as they are."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metakd.config import StudentFromTeacher, Training
from metakd.data.labels import Labels
from metakd.data.tables import read_rows, write_rows
from metakd.errors import InputError
from metakd.models.classifier import labels_of
from metakd.models.loading import load_classifier, load_config
from metakd.paths import folder_name
from tests.conftest import (
    CUT,
    CUT_FROM_PRETRAINED,
    Tables,
    distill,
    evaluate,
    make_rows,
    make_task,
    make_tokenizer,
    method_file,
    read_method,
    run_script,
    script,
    train_teacher,
)


def test_embeddings_of_another_table(tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    task, method, embeddings = make_task(tables, pretrained, CUT), read_method(), tmp_path / "embeddings"
    script("data_prep/extract_embeddings.py").main(task=task, method=method, out=embeddings)
    task.train = task.dev
    for folder, message in (
        (embeddings, r"was made from another table than .*dev\.tsv"),
        (tmp_path / "encoder", r"has no manifest\.json; make it with extract_embeddings\.py"),
        (tmp_path / "none", "input 'embeddings': .*none: no such file or folder"),
    ):
        with pytest.raises(InputError, match=message):
            script("data_prep/prototype_weights.py").main(
                task=task, method=method, embeddings=folder, out=tmp_path / "w.tsv"
            )
    assert not (tmp_path / "w.tsv").exists()


def test_weights_of_other_prototypes_and_changed_embeddings(tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    task, method, embeddings = make_task(tables, pretrained, CUT), read_method(), tmp_path / "embeddings"
    script("data_prep/extract_embeddings.py").main(task=task, method=method, out=embeddings)
    weigh, other = script("data_prep/prototype_weights.py").main, read_method()
    assert other.prototypes is not None
    other.prototypes.alpha = 0.9
    weigh(task=task, method=other, embeddings=embeddings, out=tmp_path / "w.tsv")
    task.train = str(tmp_path / "w.tsv")
    with pytest.raises(InputError, match=r"w\.tsv has the weights of prototypes .*0\.9.*the method says .*0\.5"):
        train_teacher(tmp_path, task, method)
    values = np.load(embeddings / "values.npy")
    np.save(embeddings / "values.npy", values[::-1])
    task.train = str(tables["train"])
    with pytest.raises(InputError, match=r"embeddings was changed after it was finished: values\.npy has other bytes"):
        weigh(task=task, method=method, embeddings=embeddings, out=tmp_path / "again.tsv")


def test_a_table_without_weights(tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    write_rows(tables["train"], make_rows(48))
    task = make_task(tables, pretrained, CUT)
    message = r"train\.tsv has no weight column; compute its prototype weights"
    with pytest.raises(InputError, match=message):
        train_teacher(tmp_path, task)
    mix = train_teacher(tmp_path, task, read_method("vanilla"))
    with pytest.raises(InputError, match=message):
        distill(tmp_path / "s", task, read_method(), teacher=str(mix), domain="books")


def test_names_that_do_not_exist(tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path) -> None:
    teacher, task = str(meta_teacher), make_task(tables, pretrained, CUT)
    other_labels = make_task(tables, pretrained, CUT, labels=["negative", "neutral"])
    no_dev = make_task({**tables, "dev": tmp_path / "gone.tsv"}, pretrained, CUT)
    too_long = make_task(tables, pretrained, str(pretrained), max_length=80)
    for message, changes in (
        ("domain is 'film'; the task's domains are .*; did you mean 'films'", {"domain": "film"}),
        ("the method's stages are .*; did you mean 'prediction'", {"stage": "predicton"}),
        ("has no trained classifier, so no logits", {"teacher": str(pretrained)}),
        ("no model could be loaded|no such folder", {"teacher": str(tmp_path / "nowhere")}),
        (r"logits: no file '.*none\.tsv'", {"logits": str(tmp_path / "none.tsv")}),
        (r"classifies \['negative', 'positive'\], the task has \['negative', 'neutral'\]", {"task": other_labels}),
        (r"task.dev: no file '.*gone.tsv'", {"task": no_dev}),
        ("max_length is 80, .* has 66 positions", {"task": too_long}),
    ):
        options = {"task": task, "method": read_method(), "teacher": teacher, "domain": "books", **changes}
        with pytest.raises(InputError, match=message):
            distill(tmp_path / "s", **options)
        assert not (tmp_path / "s").exists()


def test_a_bad_row_is_found_before_training(tmp_path: Path, tables: Tables, pretrained: Path) -> None:
    rows = list(read_rows(tables["dev"]))
    rows[4]["label"] = "posiitve"
    write_rows(tables["dev"], rows)
    with pytest.raises(InputError, match=r"dev\.tsv, row 5, field 'label': 'posiitve' .* did you mean 'positive'"):
        train_teacher(tmp_path, make_task(tables, pretrained, CUT))
    assert not (tmp_path / ".teacher.scratch").exists()


def test_label_order_does_not_matter(
    tmp_path: Path, tables: Tables, pretrained: Path, encoder: Callable[..., Path]
) -> None:
    """Labels are matched by name: a student with a head in another order learns the same classes."""
    task = make_task(tables, pretrained, CUT, labels=["positive", "negative"])
    teacher = train_teacher(tmp_path, task, read_method(teacher_epochs=30))
    assert labels_of(load_config(str(teacher))).names == ("positive", "negative")
    reversed_head = tmp_path / "reversed"
    load_classifier(str(encoder("other", layers=2)), Labels(("negative", "positive"))).save_pretrained(reversed_head)
    make_tokenizer().save_pretrained(reversed_head)
    method = read_method(prediction=40)
    method.teacher.epochs = 30
    method.stages[1].learning_rate, method.stages[1].select = 3e-3, "last"
    starts = {"reversed": (str(reversed_head), "negative"), "cut": (CUT, "positive")}
    for labels in (None, ["positive", "negative"]):
        for name, (start, first) in starts.items():
            out = tmp_path / f"{name}-{labels is None}"
            training = Training(batch_size=4, log_with=[])
            task = make_task(tables, pretrained, start, labels=labels, training=training)
            distill(out, task, method, teacher=str(teacher), domain="books")
            assert labels_of(load_config(str(out))).names[0] == first  # each keeps its own order
            scores = evaluate(
                tmp_path / f"{out.name}.json", out, tables["train"], teacher=teacher, domain="books"
            )  # fmt: skip
            assert scores["agreement"] > 0.8  # below 0.2 if the orders were confused


def test_scripts_print_only_the_error(tmp_path: Path, tables: Tables) -> None:
    task_file = tmp_path / "task.yaml"
    task_file.write_text(
        f"train: {tables['train']}\ndev: {tables['dev']}\ntest: {tmp_path}/none.tsv\nteacher: t\nstudent: s\n"
    )
    process = run_script(tmp_path, "experiments/check_task.py", "--task", task_file)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("error: task.test: no file") and "Traceback" not in process.stderr
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.txt").write_text("words")
    process = run_script(
        tmp_path, "data_prep/extract_embeddings.py", "--task", task_file, "--method", method_file("metakd"), "--out",
        thesis,
    )  # fmt: skip
    assert process.returncode == 2 and "has no manifest.json" in process.stderr
    assert [path.name for path in thesis.iterdir()] == ["chapter.txt"]


def test_shell_variables_survive_odd_names(
    tmp_path: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, domains = tmp_path / "my $HOME `x`", ('it\'s "odd"', "a b")
    folder.mkdir()
    tables = {name: folder / f"{name}.tsv" for name in ("train", "dev", "test")}
    for path in tables.values():
        write_rows(path, make_rows(6, domains=domains))
    task, method = make_task(tables, pretrained, CUT_FROM_PRETRAINED), read_method("multi_teacher")
    script("experiments/check_task.py").main(task=task, method=method, run_folder=folder / "run")
    show = (
        '\nprintf "%s|" "$TRAIN" "${DOMAINS[@]}" "${#TEACHERS[@]}" "${STUDENTS[@]}"\n'
        'for one in "${TEACHER_OPTIONS[@]}"; do eval "options=($one)"; printf "%s|" "${options[@]}"; done'
    )
    shell = subprocess.run(["bash", "-c", capsys.readouterr().out + show], capture_output=True, text=True, check=True)
    students = [str(folder / "run/method/students" / folder_name(name)) for name in sorted(domains)]
    options = [f"--domain={name}" for name in sorted(domains)]
    assert shell.stdout.split("|") == [str(tables["train"]), *sorted(domains), "2", *students, *options, ""]


def test_the_plan_of_a_run_is_checked_first(
    tmp_path: Path, tables: Tables, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check, task = script("experiments/check_task.py").main, make_task(tables, pretrained, CUT)
    check(task=task, method=read_method())
    assert "DOMAINS=(books films phones)" in capsys.readouterr().out
    with_text = make_task(tables, pretrained, CUT_FROM_PRETRAINED, unlabelled=str(tables["test"]))
    (tmp_path / "bad.tsv").write_text("guid\ttext_a\n1\ta text\n2\t\n")
    bad_text = make_task(tables, pretrained, CUT, unlabelled=str(tmp_path / "bad.tsv"))
    wrong_loss = read_method()
    wrong_loss.stages[1].terms[0].loss = "soft_crossentropy"
    for message, changes in (
        ("3 does not divide 4", {"task": make_task(tables, pretrained, StudentFromTeacher(3, "uniform"))}),
        ("no model could be loaded from 'nowhere'", {"task": make_task(tables, pretrained, "nowhere")}),
        ("max_length is 80, .* has 66 positions", {"task": make_task(tables, pretrained, CUT, max_length=80)}),
        ("domain 'flims' is not among .*did you mean 'films'", {"domains": "books flims"}),
        ("exclude_domain is 'flims'.*did you mean 'films'", {"domain": "films", "exclude_domain": "flims"}),
        ("'soft_crossentropy' does not fit feature 'logits'.*'soft_cross_entropy'", {"method": wrong_loss}),
        ("starts from the teacher, but the method has no teacher", {"method": read_method("label_only")}),
        ("starts from the teacher, but the method has several teachers", {"method": read_method("multi_teacher")}),
        ("task.unlabelled: no table is named", {"method": read_method("general")}),
        ("bad.tsv, row 2, field 'text_a'", {"task": bad_text, "method": read_method("recommended")}),
        ("this method trains an encoder and no classifier", {"task": with_text, "method": read_method("general")}),
    ):
        with pytest.raises(InputError, match=message):
            check(**{"task": task, "method": read_method(), **changes})
        assert capsys.readouterr().out == ""
    write_rows(tables["test"], [row for row in read_rows(tables["test"]) if row["domain"] != "phones"])
    with pytest.raises(InputError, match=r"test\.tsv has no row of domain 'phones'"):
        check(task=task, method=read_method())
    check(task=task, method=read_method(), domains="books films")
    capsys.readouterr()
    write_rows(tables["dev"], [row for row in read_rows(tables["dev"]) if row["domain"] != "phones"])
    check(task=task, method=read_method("new_domain"), domain="phones", new_domain=True)
    out = capsys.readouterr().out
    assert "EVALUATIONS=('')" in out and "LABELS=(16)" in out


def test_inner_features_need_one_tokenizer(
    tmp_path: Path, tables: Tables, pretrained: Path, encoder: Callable[..., Path], meta_teacher: Path
) -> None:
    task = make_task(tables, pretrained, str(encoder("other", layers=2)))
    path = tmp_path / "other" / "tokenizer.json"
    state = json.loads(path.read_text())
    vocabulary = state["model"]["vocab"]
    vocabulary["good"], vocabulary["bad"] = vocabulary["bad"], vocabulary["good"]
    path.write_text(json.dumps(state))
    transferable = read_method()
    transferable.stages = transferable.stages[:1]
    transferable.stages[0].terms = [t for t in transferable.stages[0].terms if t.feature == "transferable"]
    for method in (read_method(), transferable):
        with pytest.raises(InputError, match="must share a tokenizer"):
            distill(tmp_path / "s", task, method, teacher=str(meta_teacher), domain="books")
    with pytest.raises(InputError, match="must share a tokenizer"):
        script("experiments/check_task.py").main(task=task, method=read_method())
    student = distill(tmp_path / "s", task, read_method("vanilla"), teacher=str(meta_teacher), domain="books")
    assert (student / "model.safetensors").is_file()  # logits can be matched


def test_folders_of_domains_are_plain_and_different() -> None:
    assert folder_name("books") == "books" and folder_name("nyt_2") == "nyt_2"
    odd = ["a b", "a/b", "a_b", "../a", "日本", "中国", "-x", "."]
    names = [folder_name(name) for name in odd]
    assert len(set(names)) == len(odd)
    assert all("/" not in name and not name.startswith((".", "-")) for name in names)
