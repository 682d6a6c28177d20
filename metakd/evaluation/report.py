"""From evaluation files to one table: every number is computed from them, none is typed."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from metakd.evaluation.metrics import HEADLINE

COLUMNS = (
    "domain", "test rows", "majority", "teacher accuracy", "student accuracy", "teacher F1", "student F1",
    "agreement", "parameters", "size",
)  # fmt: skip


def summarise(
    evaluations: list[dict[str, Any]], settings: dict[str, Any], steps: list[dict[str, Any]]
) -> dict[str, Any]:
    """Results of one run: settings, what each step took, one evaluation per domain and the means over domains."""
    pairs = {f"{who}_{what}": [e[who][what] for e in evaluations]
             for who in ("teacher", "model") for what in ("accuracy", "macro_f1")}  # fmt: skip
    return {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": settings,
        "mean_over_domains": {name: sum(values) / len(values) for name, values in pairs.items()},
        "domains": evaluations,
        "steps": steps,
    }


def markdown(results: dict[str, Any]) -> str:
    """The results as a table for people; intervals are 95 % Wilson."""
    rows = [list(COLUMNS), ["---", *["---:"] * (len(COLUMNS) - 1)]]
    for e in results["domains"]:
        rows.append([
            escape(e["domain"]), str(e["model"]["rows"]), percent(e["model"]["majority"]),
            with_interval(e["teacher"]), with_interval(e["model"]), percent(e["teacher"]["macro_f1"]),
            percent(e["model"]["macro_f1"]), percent(e["agreement"]), millions(e), size(e),
        ])  # fmt: skip
    mean = results["mean_over_domains"]
    rows.append([
        "**mean**", "", "", percent(mean["teacher_accuracy"]), percent(mean["model_accuracy"]),
        percent(mean["teacher_macro_f1"]), percent(mean["model_macro_f1"]), "", "", "",
    ])  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def methods_markdown(found: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """Students of one domain by method, from their evaluations and manifests; the teacher comes first."""
    first, manifest = next(iter(found.values()))
    metric = next(name for name in HEADLINE.values() if name in first["model"])
    seed = manifest["resolved"]["task"]["training"]["seed"]
    lines = [
        f"{first['model']['rows']} test rows, domain {escape(first['domain'] or 'all')}, seed {seed}. Seconds: the "
        "student's training with what its teacher computes for it, without evaluation.",
        "",
        f"| method | {metric} | macro-F1 | agreement with the teacher | seconds |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]

    def line(name: str, scores: dict[str, Any], agreement: str, seconds: str) -> str:
        headline = with_interval(scores) if metric == "accuracy" else percent(scores[metric])
        macro = percent(scores["macro_f1"]) if "macro_f1" in scores else ""
        return f"| {name} | {headline} | {macro} | {agreement} | {seconds} |"

    lines.append(line("(the teacher)", first["teacher"], "", ""))
    for name, (evaluation, made) in found.items():
        numbers = evaluation["model"], percent(evaluation["agreement"]), f"{made['seconds']:.0f}"
        lines.append(line(escape(name), *numbers))
    return "\n".join(lines) + "\n"


def steps_markdown(steps: list[dict[str, Any]]) -> str:
    """Seconds and peak memory (of the main process) of each step that left a manifest."""
    rows = [f"| {escape(step['name'])} | {step['seconds']:.0f} | {step['peak_memory_mb']} |" for step in steps]
    return "\n".join(["| step | seconds | peak memory, MB |", "| --- | ---: | ---: |", *rows])


def plain(results: dict[str, Any]) -> str:
    """The same for a terminal, in columns."""
    lines = [[cell.strip().replace("**", "") for cell in line.strip("|").split(" | ")] for line in
             markdown(results).split("\n")]  # fmt: skip
    del lines[1]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def with_interval(scores: dict[str, Any]) -> str:
    low, high = scores["accuracy_95"]
    return f"{percent(scores['accuracy'])} [{percent(low)}, {percent(high)}]"


def millions(evaluation: dict[str, Any]) -> str:
    return " to ".join(f"{evaluation[who]['parameters'] / 1e6:.1f}" for who in ("teacher", "model")) + " M"


def size(evaluation: dict[str, Any]) -> str:
    return " to ".join(f"{evaluation[who]['size_bytes'] / 1e6:.0f}" for who in ("teacher", "model")) + " MB"


def escape(text: str) -> str:
    """Text that cannot break a Markdown table or become HTML."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("\n", " ")):
        text = text.replace(character, entity)
    return text
