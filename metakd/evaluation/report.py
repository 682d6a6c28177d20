"""From evaluation files to one table: every number is computed from them, none is typed."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from metakd.evaluation.metrics import HEADLINE


def shown_metrics(scores: dict[str, Any]) -> list[str]:
    """The numbers of an evaluation that tables show, the headline first."""
    return [name for name in (*HEADLINE.values(), "macro_f1") if name in scores]


def summarise(
    evaluations: list[dict[str, Any]], settings: dict[str, Any], steps: list[dict[str, Any]]
) -> dict[str, Any]:
    """Results of one run: settings, what each step took, one evaluation per domain and the means over domains."""
    pairs = {f"{who}_{what}": [e[who][what] for e in evaluations]
             for who in ("teacher", "model") for what in shown_metrics(evaluations[0]["model"])}  # fmt: skip
    return {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": settings,
        "mean_over_domains": {name: sum(values) / len(values) for name, values in pairs.items()},
        "domains": evaluations,
        "steps": steps,
    }


def markdown(results: dict[str, Any]) -> str:
    """The results as a table for people; intervals of accuracies are 95 % Wilson."""
    metrics = shown_metrics(results["domains"][0]["model"])
    titles = [
        f"{who} {name.replace('macro_f1', 'F1').replace('_', ' ')}"
        for name in metrics
        for who in ("teacher", "student")
    ]
    header = ["domain", "test rows", "majority", *titles, "agreement", "parameters", "size"]
    rows = [header, ["---", *["---:"] * (len(header) - 1)]]
    for e in results["domains"]:
        numbers = [shown(e[who], name) for name in metrics for who in ("teacher", "model")]
        majority = percent(e["model"]["majority"]) if "majority" in e["model"] else ""
        rows.append([
            escape(e["domain"]), str(e["model"]["rows"]), majority, *numbers, percent(e["agreement"]), millions(e),
            size(e),
        ])  # fmt: skip
    mean = results["mean_over_domains"]
    means = [percent(mean[f"{who}_{name}"]) for name in metrics for who in ("teacher", "model")]
    rows.append(["**mean**", "", "", *means, "", "", ""])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def methods_markdown(found: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """Students of one domain by method, from their evaluations and manifests; the teacher comes first."""
    first, manifest = next(iter(found.values()))
    metrics = shown_metrics(first["model"])
    seed = manifest["resolved"]["task"]["training"]["seed"]
    lines = [
        f"{first['model']['rows']} test rows, domain {escape(first['domain'] or 'all')}, seed {seed}. Seconds: the "
        "student's run from start to end; not in it are teachers, their logits if an earlier run has left them, "
        "general's encoder, and evaluation.",
        "",
        f"| method | {' | '.join(metrics).replace('_', ' ')} | agreement with the teacher | seconds |",
        "| --- |" + " ---: |" * (len(metrics) + 2),
    ]

    def line(name: str, scores: dict[str, Any], agreement: str, seconds: str) -> str:
        return f"| {' | '.join([name, *(shown(scores, metric) for metric in metrics), agreement, seconds])} |"

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
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def shown(scores: dict[str, Any], metric: str) -> str:
    """A number in percent; an accuracy with its interval."""
    if metric != "accuracy":
        return percent(scores[metric])
    low, high = scores["accuracy_95"]
    return f"{percent(scores[metric])} [{percent(low)}, {percent(high)}]"


def millions(evaluation: dict[str, Any]) -> str:
    return " to ".join(f"{evaluation[who]['parameters'] / 1e6:.1f}" for who in ("teacher", "model")) + " M"


def size(evaluation: dict[str, Any]) -> str:
    return " to ".join(f"{evaluation[who]['size_bytes'] / 1e6:.0f}" for who in ("teacher", "model")) + " MB"


def escape(text: str) -> str:
    """Text that cannot break a Markdown table or become HTML."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("\n", " ")):
        text = text.replace(character, entity)
    return text
