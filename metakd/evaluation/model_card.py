"""The model card of a classifier: what it is, how it was made, what was measured, how it is used."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from metakd.errors import InputError
from metakd.evaluation.calibration import CALIBRATION
from metakd.evaluation.class_shares import SHARES
from metakd.evaluation.document import Block, Table, to_markdown
from metakd.evaluation.lineage import read_published
from metakd.evaluation.model_facts import parameter_count, weight_bytes
from metakd.evaluation.report import METRICS, domain_name, percent, score_text
from metakd.export.layout import EXPORT
from metakd.fingerprint import describe_code
from metakd.manifests import MANIFEST, content_hash, find_manifest, read_json

SNIPPET = """\
```python
{imports}from transformers import pipeline

classify = pipeline("text-classification", model={model!r})
print(classify({text!r}, truncation=True{several}))
```
"""


def model_card(
    model: Path, config: dict[str, Any], evaluations: Sequence[Path], exported: Path | None, text: str
) -> str:
    """The card as Markdown with Hugging Face metadata.

    Args:
        model: folder of the classifier.
        config: its config.json.
        evaluations: files that evaluate.py wrote of it, one for each domain.
        exported: folder that export.py wrote.
        text: of the snippet.

    Raises:
        InputError: an evaluation or an export is of another model.
    """
    folders = origins(model)
    for path in evaluations:
        require_own(path, same_predictions(folders))
    if exported is not None:
        require_own(exported, [model])
    read = [read_json(path) for path in evaluations]
    manifest, history = read_published(folders[-1] / MANIFEST), read_published(folders[-1] / "history.json")
    calibrated = calibrated_folder(folders)
    name, problem = model.absolute().name, config.get("problem_type") or "single_label_classification"
    blocks = [*made_blocks(config, manifest, history), *score_blocks(read, model)]
    if problem == "single_label_classification":
        blocks += calibration_blocks(calibrated)
    blocks += [*export_blocks(exported), *limit_blocks(read, problem)]
    own = config["model_type"].startswith("metakd_")
    imports = "import metakd.models.loading  # knows this architecture\n" if own else ""
    several = ", top_k=None" if problem == "multi_label_classification" else ""
    snippet = SNIPPET.format(imports=imports, model=str(model), text=text, several=several)
    head = f"---\n{metadata(name, read)}\n---\n\n# {to_markdown([name])}"
    return f"{head}\n{to_markdown(blocks)}\n## Use\n\n{snippet}"


def calibrated_folder(folders: Sequence[Path]) -> Path | None:
    """The folder of the calibration that still holds, of a classifier's `origins`: one before a shift does not."""
    for folder in folders:
        if (folder / SHARES).is_file():
            return None
        if (folder / CALIBRATION).is_file():
            return folder
    return None


def origins(model: Path) -> list[Path]:
    """The folder of a classifier, and those of what it was calibrated or trimmed from, up to the one that was trained.

    Raises:
        InputError: one of them was made anew afterwards.
    """
    folders = [model]
    while True:
        manifest = read_published(folders[-1] / MANIFEST)
        source = manifest.get("input_paths", {}).get("model")
        if source is None or not (Path(source) / MANIFEST).is_file():
            return folders
        if content_hash(Path(source)) != manifest["inputs"]["model"]:
            raise InputError(f"{source} was made anew after {folders[-1]} was made from it; make {folders[-1]} again")
        folders.append(Path(source))


def require_own(result: Path, folders: Sequence[Path]) -> None:
    """Refuse a result of another model.

    Args:
        result: file or folder that a step made from a model.
        folders: of the models that are allowed.

    Raises:
        InputError: it was made from another model, or from one that was in this folder before.
    """
    manifest = find_manifest(result)
    made_from = read_json(manifest).get("inputs", {}).get("model") if manifest is not None else None
    if made_from not in {content_hash(folder) for folder in folders}:
        raise InputError(f"{result} was not made from {folders[0]} as it is now; make it again")


def same_predictions(folders: Sequence[Path]) -> list[Path]:
    """Of the folders of `origins` those whose models predict as the first one does: before it was calibrated."""
    same = [folders[0]]
    for folder, source in pairwise(folders):
        if not (folder / CALIBRATION).is_file():
            break
        same.append(source)
    return same


def metadata(name: str, evaluations: Sequence[dict[str, Any]]) -> str:
    """The metadata that the Hub reads, as YAML."""
    results = [
        EvalResult(
            task_type="text-classification", dataset_type=Path(evaluation["table"]).stem,
            dataset_name=f"{Path(evaluation['table']).stem}, {domain_name(evaluation)}", metric_type=metric,
            dataset_config=domain_name(evaluation),  # results of one table are told apart by it, not by their name
            metric_value=round(evaluation["model"][metric], 4),
        )
        for evaluation in evaluations for metric in METRICS if metric in evaluation["model"]
    ]  # fmt: skip
    data = ModelCardData(
        library_name="transformers", pipeline_tag="text-classification", tags=["knowledge-distillation", "metakd"],
        model_name=name, eval_results=results or None,
    )  # fmt: skip
    return data.to_yaml().strip()


def made_blocks(config: dict[str, Any], manifest: dict[str, Any], history: dict[str, Any]) -> list[Block]:
    """What the classifier is, and how it was trained."""
    names = [name for _, name in sorted(config["id2label"].items(), key=lambda item: int(item[0]))]
    layers = f", {config['num_hidden_layers']} layers" if "num_hidden_layers" in config else ""
    lines = [f"Family {config['model_type']}{layers}.", f"Labels: {', '.join(names)}."]
    resolved = manifest.get("resolved", {})
    task = resolved.get("task", {})
    settings = manifest.get("settings", {})
    if "stages" in settings:
        stages = resolved.get("method", {}).get("stages", [])
        teachers = [*(resolved.get("teacher") or []), *filter(None, [resolved.get("logits")])]
        teachers += [stage["teacher"] for stage in stages if stage.get("teacher")]
        domain, method = settings.get("domain") or "all domains", resolved.get("method_name") or "of a file"
        lines.append(f"Distilled for {domain} by the method {method} from {', '.join(teachers) or 'no teacher'}.")
    elif "teacher" in settings:
        of = settings.get("domain") if settings["teacher"]["kind"] in ("single", "multi") else "all domains of its task"
        but = f" but {settings['exclude_domain']}" if settings.get("exclude_domain") else ""
        lines.append(f"Trained on {of}{but}; it starts from {task.get('teacher')}.")
    for name, stage in history.items():
        if isinstance(stage, dict) and "rows" in stage:
            lines.append(f"Stage {name}: {stage['rows']} rows, {stage['labelled']} of them with a label.")
    if task:
        lines.append(f"Rows are cut to {task['max_length']} tokens; seed {task['training']['seed']}.")
    if "code" in manifest:
        lines.append(f"Made by {describe_code(manifest['code'])}.")
    return ["## What it is", lines]


def score_blocks(evaluations: Sequence[dict[str, Any]], model: Path) -> list[Block]:
    """Its scores by domain, beside the majority class and its teacher; its size and speed."""
    if not evaluations:
        return ["## Scores", "None were measured."]
    metric = next(name for name in METRICS if name in evaluations[0]["model"])
    rows, lines = [], []
    for evaluation in evaluations:
        scores, teacher = evaluation["model"], evaluation.get("teacher")
        rows.append([
            domain_name(evaluation), Path(evaluation["table"]).name, str(scores["rows"]), score_text(scores, metric),
            percent(scores["macro_f1"]) if "macro_f1" in scores else "",
            percent(scores["majority"]) if "majority" in scores else "", score_text(teacher, metric) if teacher else "",
        ])  # fmt: skip
        if "speed" in scores:
            speed = scores["speed"]
            lines.append(
                f"{domain_name(evaluation)}: {speed['rows_per_second']:.0f} rows/s on {speed['threads']} threads "
                f"({speed['device']})"
            )
    size = f"{parameter_count(model) / 1e6:.1f} million parameters, {weight_bytes(model) / 1e6:.1f} MB."
    headers = ["domain", "table", "rows", f"{METRICS[metric]}, % [95 % interval]", "macro-F1, %", "majority class, %",
               "its teacher, %"]  # fmt: skip
    return ["## Scores", Table(headers, rows, text_columns=2), "## Size and speed", size, lines]


def calibration_blocks(folder: Path | None) -> list[Block]:
    """What its probabilities mean.

    Args:
        folder: of the calibrated classifier; None if it is not calibrated.
    """
    if folder is None:
        return ["## Probabilities", "Not calibrated: a probability of 0.9 may be right more or less often than 90 %."]
    facts = read_published(folder / CALIBRATION)
    before, after = facts["errors"]["before"], facts["errors"]["after"]
    text = (
        f"Calibrated on {facts['rows']} dev rows: expected calibration error {before['ece']:.3f} before, "
        f"{after['ece']:.3f} after; Brier score {before['brier']:.3f}, {after['brier']:.3f}."
    )
    chosen = facts["threshold"]
    use = f"No confidence is known from which on {100 * facts['target']:g} % would be right."
    if chosen is not None:
        use = (
            f"Predictions of a confidence from {chosen['confidence']:.4f} on: {percent(chosen['coverage'])} % of the "
            f"rows, {percent(chosen['right'])} % of them right, at least {percent(chosen['lower_bound'])} % in future "
            f"rows of the same kind (95 % confidence; right is {facts['right_is']})."
        )
    return ["## Probabilities", text, use]


def export_blocks(exported: Path | None) -> list[Block]:
    """The exported files."""
    if exported is None:
        return []
    facts = read_published(exported / EXPORT)
    if not facts:
        raise InputError(f"{exported} holds no {EXPORT}; name a folder that export.py wrote")
    rows = [
        [name, file["way"], f"{file['bytes'] / 1e6:.1f}", f"{100 * file['agreement']:.2f}", f"{file['points']:.2f}",
         f"{file['highest']:.2f}"]
        for name, file in facts["files"].items()
    ]  # fmt: skip
    headers = ["file", "made of", "MB", "agreement, %", "points lost", "at most (95 %)"]
    return [
        "## Exported files",
        f"Compared with the model on {facts['rows']} rows.",
        Table(headers, rows, text_columns=2),
    ]


def limit_blocks(evaluations: Sequence[dict[str, Any]], problem: str) -> list[Block]:
    """What it is for, and what is not known.

    Args:
        problem: `problem_type` of the model's configuration.
    """
    domains = [domain_name(evaluation) for evaluation in evaluations]
    lines = [
        f"Meant for texts like those of {', '.join(domains) or 'its training'}; nothing was measured on others.",
        "It may have learned what is unjust in its rows and in its teacher: score it on the groups that matter to you.",
    ]
    if problem == "single_label_classification":
        lines.append("It always answers with one of its labels; calibrate it to let it abstain.")
    for evaluation in evaluations:
        lines += [f"{domain_name(evaluation)}: {note}" for note in evaluation["model"].get("notes", [])]
    return ["## Intended use and limits", lines]
