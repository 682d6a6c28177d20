"""Studies whose cells are drawn at random: methods of known accuracies, without any training."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metakd.manifests import write_json

CODE = {"version": "0.2.0", "commit": "c" * 40, "clean": True, "source": "0123456789abcdef", "script": None}
METHODS = {"metakd": 0.86, "tinybert": 0.855, "label_only": 0.80, "no_domain_loss": 0.87}
CONTROLS = {"majority": 0.55, "tfidf": 0.74}


def write_study(
    folder: Path,
    methods: Mapping[str, float] = METHODS,
    controls: Mapping[str, float] = CONTROLS,
    tasks: Sequence[str] = ("reviews",),
    domains: Sequence[str] = ("books", "films"),
    labels: Sequence[str] = ("negative", "positive"),
    seeds: Sequence[int] = (1, 2, 3),
    fractions: Sequence[float] = (1.0,),
    exclude_domain: Sequence[bool] = (False,),
    rows: int = 200,
    guid: str = "row",
    table: str = "",
    **study: Any,
) -> Path:
    """Write a study's folder; its cells are those of compare.py.

    Args:
        methods, controls: the accuracy of each.
        rows: test rows of a domain.
        guid: what the rows' guids begin with.
        table: path of the test table and the training table.
        study: more fields of the study.
    """
    generator = np.random.default_rng(5)
    entries: list[dict[str, Any]] = []
    for task in tasks:
        for domain in domains:
            targets = generator.integers(0, len(labels), rows)
            hardness = generator.random(rows)  # the same rows are hard for all methods
            guids = [f"{guid}-{task}-{domain}-{i}" for i in range(rows)]
            for excluded in exclude_domain:
                for fraction in fractions:
                    for seed in seeds:
                        loss = 0.06 * excluded + 0.04 * float(-np.log10(max(fraction, 0.001)))
                        teacher = probabilities(generator, targets, hardness, 0.9 - loss, len(labels))
                        lineup = {("method", name): accuracy for name, accuracy in methods.items()}
                        lineup |= {("control", name): accuracy for name, accuracy in controls.items()}
                        lineup["teacher", next(iter(methods))] = 0.9
                        for (kind, name), accuracy in lineup.items():
                            own = probabilities(generator, targets, hardness, accuracy - loss, len(labels))
                            values = teacher if kind == "teacher" else own
                            point = {
                                "task": task, "method": name, "kind": kind, "domain": domain, "seed": seed,
                                "fraction": fraction, "exclude_domain": excluded,
                                "student": "layers 2, 4 of the teacher" if kind == "method" else "",
                            }  # fmt: skip
                            cell = cell_of(point, targets, values, labels, table)
                            cell["rows"]["guid"] = guids
                            cell["teacher_probabilities"] = teacher.tolist() if kind == "method" else None
                            entries.append(cell)
    cells = folder / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    for number, cell in enumerate(entries):
        cell["key"] = f"{number:016x}"
        (cells / f"{cell['key']}.json.gz").write_bytes(gzip.compress(json.dumps(cell).encode(), 1, mtime=0))
    settings = {
        "tasks": [f"{task}.yaml" for task in tasks], "methods": {name: {"file": f"{name}.yaml"} for name in methods},
        "reference": next(iter(methods)), "controls": [*controls, "teacher"], "domains": None, "seeds": list(seeds),
        "fractions": list(fractions), "exclude_domain": exclude_domain[0], "select_by": None, **study,
    }  # fmt: skip
    write_json(
        folder / "study.json",
        {"study": settings, "cells": [{"key": cell["key"], "cell": cell["cell"]} for cell in entries]},
    )
    return folder


def probabilities(
    generator: np.random.Generator, targets: np.ndarray, hardness: np.ndarray, accuracy: float, classes: int
) -> np.ndarray:
    """Probabilities [n, C] that are right in this fraction of the rows, and sure of the wrong class in the hardest."""
    mixed = 0.95 * hardness + 0.05 * generator.random(len(targets))
    right = mixed < np.quantile(mixed, accuracy)
    said = np.where(right, targets, (targets + 1) % classes)
    sure = np.where(
        right, 0.999 - 0.4 * mixed**2, np.where(hardness > 0.98, 0.97, 0.55 + 0.3 * generator.random(len(targets)))
    )
    values = np.repeat(((1 - sure) / (classes - 1))[:, None], classes, axis=1)
    values[np.arange(len(targets)), said] = sure
    return values.round(4)


def cell_of(
    point: dict[str, Any], targets: np.ndarray, values: np.ndarray, labels: Sequence[str], table: str
) -> dict[str, Any]:
    """A cell with its predictions and everything that a report reads."""
    control = point["kind"] == "control"
    changed = 0.0 if point["method"] == "no_domain_loss" else 0.5
    own = point["method"] if point["method"] in ("label_only", "tinybert") else "common"
    stage = {"name": "prediction", **dict.fromkeys(("rows", "row_weight", "select", "epochs"), own)}
    history = {
        "prediction": {
            "epochs": [{"epoch": e, "losses": {"logits": 2 / e}, "dev": {"score": 0.8 + 0.01 * e}} for e in (1, 2, 3)],
            "best": 3, "steps": 30, "losses": [2.0, 1.0, 0.7],
        }
    }  # fmt: skip
    teacher_history = {"epochs": [{"epoch": 1, "losses": {"label": 0.6, "domain": 1.3}, "dev": {"score": 0.85}}]}
    parameters = {"method": 17_000_000, "teacher": 22_000_000, "control": 20_000}[point["kind"]]
    return {
        "cell": point,
        "settings": {
            "task": {"train": table, "test": table, "problem": "single_label", "select_by": None},
            "method": {"teacher": {"domain_loss_weight": changed, "kind": "meta"}, "stages": [stage]},
        },
        "code": CODE,
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "machine": "x86_64, 2 cores",
        "device": "cpu",
        "seconds": {"teacher": 66.0, "student": 31.2, "evaluation": 2.0},
        "peak_memory_mb": 1700,
        "labels": list(labels),
        "problem": "single_label",
        "rows": {"label": targets.tolist(), "probabilities": values.tolist()},
        "scores": {
            "accuracy": float((values.argmax(1) == targets).mean()), "macro_f1": 0.7, "ece": 0.05, "brier": 0.2,
            "parameters": parameters, "size_bytes": 4 * parameters,
            "rows_per_second": {"method": 200.0, "teacher": 100.0, "control": 9000.0}[point["kind"]],
        },
        "history": {} if control else history,
        "teacher_history": None if control else teacher_history,
        "notes": [],
        "starts_from": "" if control else "layers 2, 4 of the teacher",
        "failed": None,
    }  # fmt: skip
