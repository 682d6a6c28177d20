"""Cell files: the result of one point of a study's grid, small enough to ship. Nothing here imports torch."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from metakd.errors import InputError
from metakd.evaluation.predictions import predicted
from metakd.fingerprint import describe_code
from metakd.manifests import find_manifest, read_json, write_json
from metakd.studies.plan import Plan, PlannedCell, StudyStep
from metakd.studies.study import Study

STUDY = "study.json"
LOSSES = 100  # of a training curve

CellFile = dict[str, Any]
CONTENT = {"key", "cell", "settings", "code", "seconds", "labels", "problem", "rows", "scores", "history", "failed"}
log = logging.getLogger(__name__)


def cell_path(folder: Path, key: str) -> Path:
    """The file of a result in a study's folder."""
    return folder / "cells" / f"{key}.json.gz"


def write_study(folder: Path, study: Study, plan: Plan) -> None:
    """Write which cells belong to a study; cells of an earlier version of it may lie in the same folder."""
    cells = [{"key": planned.key, "cell": asdict(planned.cell)} for planned in plan.cells.values()]
    write_json(folder / STUDY, {"study": study, "cells": cells})


def read_study(folder: Path) -> dict[str, Any]:
    """The settings of the study in a folder.

    Raises:
        InputError: the folder has none.
    """
    return read_plan(folder)["study"]


def is_study(folder: Path) -> bool:
    """Whether a study was begun in a folder; its own file may be damaged."""
    content = read_json(folder / STUDY)
    return {"study", "cells"} <= content.keys() or (not content and (folder / "cells").is_dir())


def read_plan(folder: Path) -> dict[str, Any]:
    """What `write_study` wrote.

    Raises:
        InputError: the folder has no study, or a damaged one.
    """
    content = read_json(folder / STUDY)
    if not content:
        raise InputError(f"{folder} has no {STUDY}; run the study first")
    entries, study = content.get("cells"), content.get("study")
    whole = (
        isinstance(study, dict) and isinstance(study.get("reference"), str) and isinstance(study.get("methods"), dict)
    )
    if not whole or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{folder / STUDY} is no study of this version, or damaged; run compare.py again")
    return content


def read_cells(folder: Path) -> list[CellFile]:
    """The cells of the study in a folder that were run, in the order of its plan.

    Cells with one key have one result, which comes once for each of them. Where "failed" is not None, there is none.

    Raises:
        InputError: the folder has no study.
    """
    cells = []
    for entry in read_plan(folder)["cells"]:
        content = read_cell(cell_path(folder, entry["key"]))
        if content is not None:
            cells.append({**content, "cell": entry["cell"]})
    return cells


def read_cell(path: Path) -> CellFile | None:
    """The content of a cell file; None if there is none, or a damaged one, which is then made again."""
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        log.warning("%s is damaged (%s); the result counts as not run", path, error)
        return None
    whole = isinstance(content, dict) and (content.get("failed") is not None or content.keys() >= CONTENT)
    if not whole or "failed" not in content:
        log.warning("%s is no result of a study; it counts as not run", path)
        return None
    return content


def write_cell(folder: Path, content: CellFile) -> None:
    """Write a cell file whole or not at all."""
    path = cell_path(folder, content["key"])
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(gzip.compress(text.encode(), mtime=0))  # equal cells are equal files
    partial.replace(path)


def failed_cell(planned: PlannedCell, step: StudyStep, log: Path, message: str) -> CellFile:
    """A cell whose step failed; the next run tries it again.

    Args:
        message: the last line of the log.
    """
    failed = {"step": f"{step.kind} {step.out}", "log": str(log), "message": message}
    return {"key": planned.key, "cell": asdict(planned.cell), "failed": failed}


def collect_cell(planned: PlannedCell, steps: Iterable[StudyStep]) -> CellFile:
    """A cell from the files that its steps left.

    Args:
        steps: all of the cell's.
    """
    evaluation, manifests = read_json(planned.evaluation), manifests_of(steps)
    model, last = evaluation["model"], manifests[-1][1]
    results = translator_results if evaluation["problem"] == "translation" else classifier_results
    return {
        "key": planned.key,
        "cell": asdict(planned.cell),
        "settings": planned.settings,
        "code": evaluation["code"],
        "versions": last["versions"],
        "machine": last["machine"],
        "device": model["speed"]["device"],
        "seconds": seconds_by_kind(manifests),
        "peak_memory_mb": max(manifest["peak_memory_mb"] for _, manifest in manifests),
        "problem": evaluation["problem"],
        **results(planned, evaluation),
        "history": {} if planned.student is None else short_histories(read_json(planned.student / "history.json")),
        "teacher_history": None if planned.teacher is None else teacher_history(planned.teacher),
        "notes": [*model.get("notes", []), *code_notes(manifests)],
        "starts_from": model.get("starts_from", ""),
        "failed": None,
    }


def classifier_results(planned: PlannedCell, evaluation: dict[str, Any]) -> dict[str, Any]:
    """Labels, rows and scores of a classifier's cell."""
    from metakd.evaluation.metrics import agreement
    from metakd.evaluation.statistics import brier_score, expected_calibration_error

    model, rows, labels, problem = (evaluation[name] for name in ("model", "rows", "labels", "problem"))
    probabilities, targets = np.array(rows["probabilities"]), np.array(rows["label"])
    scores = scores_of(model)
    if problem == "single_label":
        scores["ece"] = expected_calibration_error(probabilities, targets)
        scores["brier"] = brier_score(probabilities, targets)
    teacher_probabilities = None
    if planned.teacher_evaluation is not None and planned.teacher_evaluation != planned.evaluation:
        teacher_probabilities = probabilities_of(read_json(planned.teacher_evaluation), rows["guid"], labels)
        scores["agreement"] = agreement(
            predicted(probabilities, problem), predicted(teacher_probabilities, problem), problem
        )
    teacher = None if teacher_probabilities is None else teacher_probabilities.tolist()
    return {"labels": labels, "rows": rows, "teacher_probabilities": teacher, "scores": six_decimals(scores)}


def translator_results(planned: PlannedCell, evaluation: dict[str, Any]) -> dict[str, Any]:
    """Rows and scores of a translator's cell; those of its beam search are named beam_bleu and so on."""
    assert planned.beam_evaluation is not None
    domain, rows = planned.cell.domain, evaluation["rows"]
    chosen = [i for i, name in enumerate(rows["domain"]) if name == domain]
    scores: dict[str, Any] = {}
    signatures: dict[str, str] = {}
    for prefix, file in (("", planned.evaluation), ("beam_", planned.beam_evaluation)):
        model = read_json(file)["model"]
        found = scores_of({**model, **model["domains"][domain]})
        scores |= {f"{prefix}{name}": value for name, value in found.items()}
        signatures |= {name: value for name, value in model.items() if name.endswith("signature")}
    columns = {name: [values[i] for i in chosen] for name, values in rows.items() if name != "domain"}
    return {
        "labels": [], "rows": columns, "teacher_probabilities": None, "scores": six_decimals(scores),
        "signatures": signatures,
    }  # fmt: skip


def scores_of(model: dict[str, Any]) -> dict[str, Any]:
    """The scores of an evaluation, and the model's size and speed."""
    scores = {name: value for name, value in model.items() if isinstance(value, float)}
    scores |= {name: model[name] for name in ("parameters", "size_bytes")}
    return {**scores, "rows_per_second": model["speed"]["rows_per_second"]}


def six_decimals(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in scores.items()}


def manifests_of(steps: Iterable[StudyStep]) -> list[tuple[StudyStep, dict[str, Any]]]:
    """The manifests of the steps that leave one, in order."""
    found = [(step, find_manifest(step.out)) for step in steps]
    return [(step, read_json(path)) for step, path in found if path is not None]


def seconds_by_kind(manifests: Sequence[tuple[StudyStep, dict[str, Any]]]) -> dict[str, float]:
    """Seconds of all steps of each kind; of a resumed step those of its last run."""
    seconds: dict[str, float] = defaultdict(float)
    for step, manifest in manifests:
        seconds[step.kind] += manifest["seconds"]
    return {kind: round(value, 1) for kind, value in seconds.items()}


def probabilities_of(evaluation: dict[str, Any], guids: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """The probabilities [n, C] of another model's evaluation on the same rows, columns in the order of `labels`."""
    if evaluation["rows"]["guid"] != guids:
        raise InputError(f"evaluations of {evaluation['model']['path']} and of its student hold different rows")
    order = [evaluation["labels"].index(name) for name in labels]
    return np.array(evaluation["rows"]["probabilities"])[:, order]


def teacher_history(folder: Path) -> dict[str, Any]:
    """The training curve of a teacher; that of its step where a step makes several models (kind mtl)."""
    place = folder if (folder / "history.json").is_file() else folder.parent
    return short_history(read_json(place / "history.json"))


def short_histories(histories: dict[str, Any]) -> dict[str, Any]:
    """The training curves of a student by stage; a translator has one stage."""
    if "losses" in histories:
        histories = {"training": histories}
    return {stage: short_history(history) for stage, history in histories.items()}


def short_history(history: dict[str, Any]) -> dict[str, Any]:
    """Epochs, the best epoch's number, and the objective: means over equal parts of the steps, at most `LOSSES`."""
    losses, best = history["losses"], history["best"]
    parts = np.array_split(np.array(losses), min(LOSSES, len(losses)))
    return {
        "epochs": [rounded(epoch) for epoch in history["epochs"]],
        "best": best and best["epoch"],
        "steps": len(losses),
        "losses": [rounded(float(part.mean())) for part in parts],
    }


def rounded(value: Any) -> Any:
    """A JSON value with numbers of five significant digits."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


def code_notes(manifests: Sequence[tuple[StudyStep, dict[str, Any]]]) -> list[str]:
    """A note if different code made the steps of a cell."""
    made_by = {manifest["code"]["source"]: describe_code(manifest["code"]) for _, manifest in manifests}
    return [f"different code made its steps: {'; '.join(made_by.values())}"] if len(made_by) > 1 else []
