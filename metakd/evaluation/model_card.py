"""The model card of a classifier: what it is, how it was made, what was measured, how it is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from metakd.errors import InputError
from metakd.evaluation.calibration import CALIBRATION
from metakd.evaluation.document import Block, Table, to_markdown
from metakd.evaluation.lineage import read_published
from metakd.evaluation.report import METRICS, domain_name, percent, score_text
from metakd.export.layout import EXPORT
from metakd.fingerprint import describe_code
from metakd.manifests import MANIFEST

SNIPPET = """\
```python
{imports}from transformers import pipeline

classify = pipeline("text-classification", model={model!r})
print(classify({text!r}, truncation=True))
```
"""


def model_card(
    model: Path, config: dict[str, Any], evaluations: Sequence[dict[str, Any]], exported: Path | None, text: str
) -> str:
    """The card as Markdown with Hugging Face metadata.

    Args:
        model: folder of the classifier.
        config: its config.json.
        evaluations: what evaluate.py wrote of it, one for each domain.
        exported: folder that export.py wrote.
        text: of the snippet.
    """
    trained = training_folder(model)
    manifest, history = read_published(trained / MANIFEST), read_published(trained / "history.json")
    blocks = [*made_blocks(config, manifest, history), *score_blocks(evaluations), *calibration_blocks(model)]
    blocks += [*export_blocks(exported), *limit_blocks(evaluations)]
    name = model.absolute().name
    own = config["model_type"].startswith("metakd_")
    imports = "import metakd.models.loading  # knows this architecture\n" if own else ""
    snippet = SNIPPET.format(imports=imports, model=str(model), text=text)
    head = f"---\n{metadata(name, evaluations)}\n---\n\n# {to_markdown([name])}"
    return f"{head}\n{to_markdown(blocks)}\n## Use\n\n{snippet}"


def training_folder(model: Path) -> Path:
    """The folder that a classifier was trained in: itself, or what it was calibrated or trimmed from."""
    while True:
        source = read_published(model / MANIFEST).get("input_paths", {}).get("model")
        if source is None or not (Path(source) / MANIFEST).is_file():
            return model
        model = Path(source)


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
        teachers = ", ".join(resolved.get("teacher") or []) or "no teacher"
        domain = settings.get("domain") or "all domains"
        method = resolved.get("method_name") or "of a file"
        lines.append(f"Distilled for {domain} by the method {method} from {teachers}.")
    elif "teacher" in settings:
        lines.append(f"Trained on all domains of its task; it starts from {task.get('teacher')}.")
    for name, stage in history.items():
        if isinstance(stage, dict) and "rows" in stage:
            lines.append(f"Stage {name}: {stage['rows']} rows, {stage['labelled']} of them with a label.")
    if task:
        lines.append(f"Rows are cut to {task['max_length']} tokens; seed {task['training']['seed']}.")
    if "code" in manifest:
        lines.append(f"Made by {describe_code(manifest['code'])}.")
    return ["## What it is", lines]


def score_blocks(evaluations: Sequence[dict[str, Any]]) -> list[Block]:
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
    first = evaluations[0]["model"]
    size = f"{first['parameters'] / 1e6:.1f} million parameters, {first['size_bytes'] / 1e6:.1f} MB."
    headers = ["domain", "table", "rows", f"{METRICS[metric]}, % [95 % interval]", "macro-F1, %", "majority class, %",
               "its teacher, %"]  # fmt: skip
    return ["## Scores", Table(headers, rows, text_columns=2), "## Size and speed", size, lines]


def calibration_blocks(model: Path) -> list[Block]:
    """What its probabilities mean."""
    facts = read_published(model / CALIBRATION)
    if not facts:
        return ["## Probabilities", "Not calibrated: a probability of 0.9 may be right more or less often than 90 %."]
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


def limit_blocks(evaluations: Sequence[dict[str, Any]]) -> list[Block]:
    """What it is for, and what is not known."""
    domains = [domain_name(evaluation) for evaluation in evaluations]
    lines = [
        f"Meant for texts like those of {', '.join(domains) or 'its training'}; nothing was measured on others.",
        "It always answers with one of its labels; calibrate it to let it abstain.",
        "It may have learned what is unjust in its rows and in its teacher: score it on the groups that matter to you.",
    ]
    for evaluation in evaluations:
        lines += [f"{domain_name(evaluation)}: {note}" for note in evaluation["model"].get("notes", [])]
    return ["## Intended use and limits", lines]
