"""A teacher on its training rows, by the script, and the pictures that a report makes of it."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, pipeline

from metakd.errors import InputError
from metakd.evaluation.pictures import Histogram, Points
from metakd.evaluation.sections.teachers import read_analyses, teacher_sections, training_suspects
from tests.conftest import CUT, Tables, make_task, read_method, script


def analyse(tmp_path: Path, tables: Tables, pretrained: Path, teacher: Path, **options: Any) -> dict[str, Any]:
    """The analysis of a teacher, and the script's embeddings beside it."""
    task, embeddings = make_task(tables, pretrained, CUT), tmp_path / "embeddings"
    script("data_prep/extract_embeddings.py").main(task=task, method=read_method(), out=embeddings)
    out = tmp_path / "study/analyses/a.json.gz"
    script("experiments/analyse_teacher.py").main(task=task, teacher=teacher, embeddings=embeddings, out=out, **options)
    return json.loads(gzip.decompress(out.read_bytes()))


def transferable_features(teacher: Path, texts: list[str], domains: list[int]) -> np.ndarray:
    """h(x, k) = tanh(W (e_k + mean over tokens but [CLS]) + b) [n, D], from the files of a teacher."""
    model, tokenizer = AutoModel.from_pretrained(teacher), AutoTokenizer.from_pretrained(teacher)
    head = load_file(teacher / "domain_head.safetensors")
    features = []
    for text, domain in zip(texts, domains, strict=True):
        with torch.no_grad():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 1:].mean(0)
        inner = head["dense.weight"] @ (head["domain_embedding.weight"][domain] + mean) + head["dense.bias"]
        features.append(torch.tanh(inner).numpy())
    return np.stack(features)


def test_analysis_of_a_meta_teacher(tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path) -> None:
    analysis = analyse(tmp_path, tables, pretrained, meta_teacher)
    with tables["train"].open() as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    rows = analysis["rows"]
    assert rows["guid"] == [row["guid"] for row in table] and analysis["table_rows"] == len(table)
    assert [analysis["domains"][k] for k in rows["domain"]] == [row["domain"] for row in table]
    assert rows["prototype"] == pytest.approx([float(row["weight"]) for row in table], abs=5e-5)
    classify = pipeline("text-classification", model=str(meta_teacher), top_k=None)
    for i in (0, 7, 30):
        expected = {answer["label"]: answer["score"] for answer in classify([table[i]["text_a"]])[0]}
        assert rows["probabilities"][i] == pytest.approx([expected[name] for name in analysis["labels"]], abs=1e-3)
        error = 1 - expected[table[i]["label"]]
        weight = (1 + float(table[i]["weight"])) / (1 + np.exp(error**2))  # Meta-KD, section 3.3
        assert rows["expertise"][i] == pytest.approx(weight, abs=1e-3)
    for name in ("before", "after"):
        points = np.array(rows[name])
        assert points.shape == (48, 2) and np.allclose(points.mean(0), 0, atol=1e-3)
        assert abs(np.corrcoef(points.T)[0, 1]) < 1e-2 and points[:, 0].var() > points[:, 1].var() > 0
    assert analysis["feature"] == "h"
    features = transferable_features(meta_teacher, [row["text_a"] for row in table], rows["domain"])
    components = np.linalg.svd(features - features.mean(0))[2][:2]
    expected_points = (features - features.mean(0)) @ components.T  # a component may point either way
    np.testing.assert_allclose(np.abs(rows["after"]), np.abs(expected_points), atol=2e-3)
    assert not any(row["text_a"] in json.dumps(analysis) for row in table)


def test_report_sections_of_an_analysis(tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path) -> None:
    written = analyse(tmp_path, tables, pretrained, meta_teacher)
    analyses = read_analyses(tmp_path / "study")
    weights, expertise, features = teacher_sections(analyses, {})
    for picture, domain in zip(weights.pictures, range(3), strict=True):
        chosen = [
            t for t, k in zip(written["rows"]["prototype"], written["rows"]["domain"], strict=True) if k == domain
        ]
        assert isinstance(picture, Histogram) and sum(picture.counts) == len(chosen) == 16
        assert picture.mean == pytest.approx(np.mean(chosen))
    highest, lowest = weights.tables[0].table.rows[0], weights.tables[0].table.rows[5]
    books = [t for t, k in zip(written["rows"]["prototype"], written["rows"]["domain"], strict=True) if k == 0]
    assert highest[0] == lowest[0] == "books"
    assert (highest[-1], lowest[-1]) == (f"{max(books):.3f}", f"{min(books):.3f}")
    shown = [group for picture in expertise.pictures for group in picture.series if isinstance(picture, Points)]
    assert sum(len(group.x) for group in shown) == 48
    assert all(x > 0.5 for group in shown if group.name == "teacher wrong" for x in group.x)
    assert [picture.title for picture in features.pictures] == [
        "Before: E(x) of the pretrained encoder", "After: transferable feature h of the teacher",
    ]  # fmt: skip


def test_training_rows_that_a_sure_teacher_contradicts(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path
) -> None:
    analyse(tmp_path, tables, pretrained, meta_teacher)
    path = tmp_path / "study/analyses/a.json.gz"
    content = json.loads(gzip.decompress(path.read_bytes()))
    content["rows"]["probabilities"] = [[0.5, 0.5]] * 48
    content["rows"]["probabilities"][3] = [0.96, 0.04] if content["rows"]["label"][3] else [0.04, 0.96]
    content["rows"]["probabilities"][4] = [0.04, 0.96] if content["rows"]["label"][4] else [0.96, 0.04]
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    (suspect,) = training_suspects(read_analyses(tmp_path / "study"))
    assert (suspect.guid, suspect.probability, suspect.trained_on) == (content["rows"]["guid"][3], 0.96, True)
    assert suspect.label != suspect.said


def test_a_long_table_is_sampled(tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path) -> None:
    analysis = analyse(tmp_path, tables, pretrained, meta_teacher, most_rows=20)
    assert len(set(analysis["rows"]["guid"])) == len(analysis["rows"]["before"]) == 20 and analysis["table_rows"] == 48
    assert read_analyses(tmp_path / "study")[0].basis == "1 teacher (seed 1), 20 of 48 training rows"


def test_what_cannot_be_analysed_is_refused(
    tmp_path: Path, tables: Tables, pretrained: Path, meta_teacher: Path
) -> None:
    main, task = script("experiments/analyse_teacher.py").main, make_task(tables, pretrained, CUT)
    with pytest.raises(InputError, match=r"let its name end in \.json\.gz"):
        main(task=task, teacher=meta_teacher, embeddings=tmp_path, out=tmp_path / "a.json")
    unweighted = {**tables, "train": tables["dev"]}
    with pytest.raises(InputError, match="has no prototype weights; name the weighted table"):
        analyse(tmp_path / "a", unweighted, pretrained, meta_teacher)
    folder = tmp_path / "study/analyses"
    folder.mkdir(parents=True)
    (folder / "a.json.gz").write_bytes(gzip.compress(b'{"rows": {}}'))
    with pytest.raises(InputError, match=r"a\.json\.gz is not an analysis of a teacher"):
        read_analyses(tmp_path / "study")
