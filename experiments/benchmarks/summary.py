"""The benchmark tables of the README, made from experiments/results/benchmarks/*.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from metakd.cli import run
from metakd.errors import InputError

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments/results/benchmarks"
BEGIN, END = "<!-- benchmarks: experiments/benchmarks/summary.py -->", "<!-- end of benchmarks -->"


def main(write: bool = False) -> None:
    """Print the tables, and say whether the README has them.

    Args:
        write: bring the README up to date.
    """
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InputError(f"{readme} has no lines {BEGIN} and {END}, between which the tables belong")
    current = f"{before}{begin}\n{tables()}\n{end}{after}"
    print(tables())
    if write:
        readme.write_text(current, "utf-8")
    elif current != text:
        print(f"\n{readme} is not up to date; run this again with --write true")


def tables() -> str:
    """Both tables as Markdown."""
    found = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(RESULTS.glob("*.json"))}
    stages = {kind: found[f"stages_{kind}"] for kind in ("long", "short")}
    names = ["metakd", "TextBrewer", "released loop"]
    lines = [
        "| rows | rows/s in | metakd | TextBrewer | released loop | to TextBrewer | to the released loop |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, result in stages.items():
        for part, speeds in result["rows_per_second"].items():
            shown = [f"{speeds[name]:.1f}" if name in speeds else "" for name in names]
            ratios = [f"{speeds['metakd'] / speeds[name]:.1f}x" if name in speeds else "" for name in names[1:]]
            tokens = f"{kind}, {result['mean_tokens']:.0f} tokens"
            lines.append(f"| {' | '.join([tokens, part, *shown, *ratios])} |")
    lines += ["", "| what | figure |", "| --- | --- |"]
    lines += [f"| {what} | {figure} |" for what, figure in others(found)]
    machine = stages["long"]["machine"]
    lines += ["", f"{machine['cores']} cores, {machine['processor']}, metakd in {stages['long']['precision']}, "
                  "the others in fp32."]  # fmt: skip
    return "\n".join(lines)


def others(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What the other benchmarks found."""
    lines = []
    for kind in ("long", "short"):
        losses = found[f"stages_{kind}"]["losses"]
        shown = "; ".join(f"{name} {v['intermediate']:.3f} and {v['prediction']:.3f}" for name, v in losses.items())
        lines.append((f"losses of both stages after the whole run, {kind} rows", shown))
    lines.append(("speed of the loop, bare steps = 1 (short rows)", f"{found['overhead']['ratio']:.2f}"))
    embeddings = found["embeddings"]
    shown = f"{embeddings['ratio']:.2f} (lowest cosine {embeddings['lowest_cosine']:.4f})"
    lines.append(("embeddings, sentence-transformers = 1", shown))
    scores, medians = found["prototypes"], found["prototypes"]["medians"]
    shown = (f"{medians['scoring']['seconds']:.1f} s, {scores['ratio']:.1f}x reading the file, "
             f"{medians['scoring']['peak_mb']:.0f} MB")  # fmt: skip
    lines.append((f"prototype scores of {scores['rows']:,} x {scores['width']}", shown))
    shown = f"{medians['scoring a stream']['seconds']:.0f} s, {medians['scoring a stream']['peak_mb']:.0f} MB"
    lines.append((f"of {scores['streamed_rows']:,}, streamed", shown))
    growth = ", ".join(f"{g['rows']:,}: {g['peak_memory_mb']} MB" for g in found["scale"]["growth"])
    lines.append(("memory of training a BERT of 2 layers and 64 dimensions, by rows", growth))
    several = [(way, v) for way, v in found["scale"]["processes"].items() if "largest_difference_of_a_loss" in v]
    shown = ", ".join(f"{way} {v['largest_difference_of_a_loss']:.0e}" for way, v in several)
    lines.append(("largest difference of a step's loss from one process", shown))
    return lines


if __name__ == "__main__":
    run(main)
