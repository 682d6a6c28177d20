"""The tables of experiments/benchmarks/README.md, made from experiments/results/benchmarks/*.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tabulate import tabulate

from metakd.cli import run
from metakd.errors import InputError
from metakd.manifests import read_json

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments/results/benchmarks"
README = ROOT / "experiments/benchmarks/README.md"
BEGIN, END = "<!-- benchmarks: experiments/benchmarks/summary.py -->", "<!-- end of benchmarks -->"
KINDS = ("long", "short")


def main(write: bool = False) -> None:
    """Print the tables, and say whether the README has them.

    Args:
        write: write them into the README.
    """
    text = README.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InputError(f"{README} has no lines {BEGIN} and {END}; put them where the tables belong")
    current = f"{before}{begin}\n{tables()}\n{end}{after}"
    print(tables())
    if write:
        README.write_text(current, "utf-8")
    elif current != text:
        print(f"\n{README} is not up to date; run this again with --write true")


def tables() -> str:
    """All tables as Markdown."""
    stages = {kind: result(f"stages_{kind}") for kind in KINDS}
    machine, precision = stages["long"]["machine"], stages["long"]["precision"]
    note = f"{machine['cores']} cores, {machine['processor']}, metakd in {precision}, the others in fp32."
    return "\n\n".join(
        [speed_table(stages), loss_table(stages), tuning_table(), inference_table(), other_figures(), note],
    )


def result(name: str) -> dict[str, Any]:
    """A benchmark's JSON file.

    Raises:
        InputError: the benchmark has not been run.
    """
    content = read_json(RESULTS / f"{name}.json")
    if not content:
        raise InputError(f"{RESULTS / name}.json: no such file; make it with the command in {README}")
    return content


def markdown(headers: list[str], lines: list[list[str]], numbers_from: int) -> str:
    """A Markdown table whose columns from `numbers_from` on are aligned right."""
    align = ["left"] * numbers_from + ["right"] * (len(headers) - numbers_from)
    return tabulate(lines, headers, tablefmt="pipe", disable_numparse=True, colalign=align)


def speed_table(stages: dict[str, Any]) -> str:
    """Rows per second of each library and the ratios to metakd."""
    names = list(stages["long"]["losses"])
    others = [name for name in names if name != "metakd"]
    lines = []
    for kind, content in stages.items():
        for part, speeds in content["rows_per_second"].items():
            shown = [f"{speeds[name]:.1f}" if name in speeds else "" for name in names]
            ratios = [f"{speeds['metakd'] / speeds[name]:.1f}x" if name in speeds else "" for name in others]
            lines.append([f"{kind}, {content['mean_tokens']:.0f} tokens", part, *shown, *ratios])
    return markdown(["rows", "rows/s in", *names, *(f"metakd / {name}" for name in others)], lines, 2)


def loss_table(stages: dict[str, Any]) -> str:
    """Losses of both stages after the whole run."""
    names = list(stages["long"]["losses"])
    lines = []
    for kind, content in stages.items():
        for number, stage in enumerate(content["losses"]["metakd"], 1):
            lines.append([kind, f"stage {number}", *(f"{content['losses'][name][stage]:.3f}" for name in names)])
    return markdown(["rows", "loss after the whole run", *names], lines, 2)


def tuning_table() -> str:
    """Rows per second with and without CPU tuning, and how far the losses differ."""
    lines = []
    for kind in KINDS:
        for stage, values in result(f"cpu_tuning_{kind}")["stages"].items():
            auto, off, ratio = values["rows/s, auto"], values["rows/s, off"], values["ratio"]
            difference = values["largest relative difference of a loss"]
            lines.append([kind, stage, f"{auto:.1f}", f"{off:.1f}", f"{ratio:.1f}x", f"{difference:.0e}"])
    headers = ["rows", "rows/s in", "cpu_tuning: auto", "cpu_tuning: off", "auto / off", "difference of losses"]
    return markdown(headers, lines, 2)


def inference_table() -> str:
    """Rows per second of each form of each classifier by batch size, and the latency of a single row."""
    models: dict[str, dict[int, dict[str, Any]]] = {}
    for figures in result("inference")["models"]:
        models.setdefault(figures["model"], {})[figures["batch_size"]] = figures
    sizes = list(next(iter(models.values())))
    lines = []
    for name, by_size in models.items():
        speeds = [f"{by_size[size]['rows_per_second']:,.0f} ({by_size[size]['ratio']:.1f}x)" for size in sizes]
        single = by_size[sizes[0]]
        latency = f"{single['p50_ms']:.1f}, {single['p95_ms']:.1f}"
        lines.append([Path(name).name.replace("model-int8.onnx", "student, ONNX int8").replace("model.onnx", "student, "
                      "ONNX fp32"), f"{single['megabytes']:.1f}", *speeds, latency])  # fmt: skip
    headers = ["classifier", "MB", *(f"rows/s at {size}" for size in sizes), "ms of one row, p50, p95"]
    return markdown(headers, lines, 1)


def other_figures() -> str:
    """One figure of each of the other benchmarks."""
    overhead, embeddings, prototypes, scale = map(result, ("overhead", "embeddings", "prototypes", "scale"))
    scoring, streaming = prototypes["medians"]["scoring"], prototypes["medians"]["scoring a stream"]
    memory = ", ".join(f"{g['rows']:,}: {g['peak_memory_mb']} MB" for g in scale["growth"])
    translation = result("translation")
    ratios, width = translation["ratios"], translation["model"]["hidden_size"]
    name = "largest_difference_of_a_loss"
    differences = ", ".join(f"{way} {v[name]:.0e}" for way, v in scale["processes"].items() if name in v)
    lines = [
        ["speed of the loop, bare steps = 1 (short rows)", f"{overhead['ratio']:.2f}"],
        [
            "speed of embeddings, sentence-transformers = 1",
            f"{embeddings['ratio']:.2f} (lowest cosine {embeddings['lowest_cosine']:.4f})",
        ],
        [
            f"speed of training a translator of width {width}, Seq2SeqTrainer = 1",
            f"{ratios['training']:.2f} (in fp32, on {translation['machine']['processor']})",
        ],
        [
            "speed of its search, model.generate = 1",
            f"greedy {ratios['beam 1']:.2f}, beam 5 {ratios['beam 5']:.2f}",
        ],
        [
            f"prototype scores of {prototypes['rows']:,} x {prototypes['width']}",
            f"{scoring['seconds']:.1f} s, {prototypes['ratio']:.1f}x reading the file, {scoring['peak_mb']:.0f} MB",
        ],
        [
            f"prototype scores of {prototypes['streamed_rows']:,}, streamed",
            f"{streaming['seconds']:.0f} s, {streaming['peak_mb']:.0f} MB",
        ],
        ["peak memory of training a BERT of 2 layers and 64 dimensions, by rows", memory],
        ["largest difference of a step's loss from that of one process", differences],
    ]
    return markdown(["what", "figure"], lines, 2)


if __name__ == "__main__":
    run(main)
