"""Translate a table: greedily or by beam search, with the n best hypotheses if wanted."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from metakd.cli import run
from metakd.config import Precision
from metakd.data.formats import Row, require_format, write
from metakd.data.tables import read_rows
from metakd.errors import InputError, nearest
from metakd.ranges import Count
from metakd.steps import Step
from metakd.translation.settings import SOURCES, TRANSLATION_COLUMNS

log = logging.getLogger(__name__)


def main(
    model: str,
    table: Path,
    out: Path,
    beam: Count = 5,
    nbest: Count = 1,
    columns: str = ",".join(TRANSLATION_COLUMNS),
    format: Literal["table", "fairseq"] = "table",
    max_length: Count | None = None,
    precision: Precision = "auto",
    cpu_tuning: Literal["auto", "off"] = "auto",
    remake: bool = False,
) -> None:
    """Write a model's translations row by row, in the order of the table; OUT.manifest.json says how fast.

    Runs under python or torchrun, in batches of like length. A killed run goes on.

    Args:
        model: folder or Hub name of an encoder-decoder of one pair of languages.
        table: TSV, CSV, JSONL or Parquet with guid, text_a and, as reference, label.
        out: TSV, CSV, JSONL or Parquet; any name for --format fairseq.
        beam: width of the search; 1 is greedy.
        nbest: hypotheses of each row, a line each; at most `beam`.
        columns: of the table, e.g. source,hypothesis for another toolkit; training here needs all of them. score is the
            mean log-probability of the hypothesis's tokens; ended is "no" where the longest length cut it off.
        format: "fairseq" writes the lines S-, T-, H-, D- and P- of fairseq-generate, by row number.
        max_length: most tokens of a source or translation; by default as in training.
        precision: "auto" is bf16 where the machine computes in it natively, which is slower for narrow models on a CPU.
        cpu_tuning: "off" computes with stock PyTorch on a CPU.
        remake: make the file anew if other code made it.
    """
    wanted = columns.split(",")
    if len(set(wanted)) < len(wanted):
        raise InputError(f"--columns {columns} names a column twice; name each once")
    for name in wanted:
        if name not in TRANSLATION_COLUMNS:
            raise InputError(
                f"--columns: {name!r} is not among {list(TRANSLATION_COLUMNS)}{nearest(name, TRANSLATION_COLUMNS)}"
            )
    if nbest > beam:
        raise InputError(f"--nbest {nbest} is more than --beam {beam} finds; raise the beam")
    if format == "table":
        require_format(out)
    if format == "fairseq" and wanted != list(TRANSLATION_COLUMNS):
        raise InputError("--columns is about tables; --format fairseq has its own lines")
    settings = {"beam": beam, "nbest": nbest, "max_length": max_length, "precision": precision}
    inputs: dict[str, str | Path] = {"model": model, "table": table}
    step = Step(out, {**settings, "columns": wanted, "format": format}, inputs, {"cpu_tuning": cpu_tuning}, file=True,
                remake=remake)  # fmt: skip
    if step.finished():
        return
    import torch

    from metakd.evaluation.model_facts import model_facts
    from metakd.models.model_io import load_info
    from metakd.training.runtime import Together, start
    from metakd.translation.models import load_translator, tokenizer_of, try_translator
    from metakd.translation.rows import encode_pairs
    from metakd.translation.search import read_translations, saved_translations, translate_rows

    accelerator = start(precision, cpu_tuning)
    step.resolved["precision"] = accelerator.mixed_precision
    translator, tokenizer, info = load_translator(model), tokenizer_of(model, model), load_info(Path(model))
    longest = max_length or (info.max_length if info is not None else 128)
    try_translator(translator, tokenizer, longest, model)
    rows = encode_pairs(table, tokenizer, longest, SOURCES)
    if rows.cut.any():
        log.warning("%s: %d rows have more than %d tokens and are cut", table, rows.cut.sum(), longest)
    with step.workspace(Together(accelerator)) as file:
        if file is None:
            return
        parts = step.scratch / "translations"
        before, started = len(saved_translations(parts)), time.perf_counter()
        translate_rows(parts, translator, tokenizer, rows, accelerator, beam, nbest, longest)
        seconds = time.perf_counter() - started
        new = len(rows) - before
        step.resolved["speed"] = {
            "rows_per_second": new / seconds if new else None, "rows": new, "seconds": seconds,
            "processes": accelerator.num_processes, "threads": torch.get_num_threads(),
            "device": accelerator.device.type,
        }  # fmt: skip
        facts = model_facts(Path(model)) if Path(model).is_dir() else {}
        step.resolved["model"] = {"parameters": translator.num_parameters(), **facts}
        if accelerator.is_main_process:
            translations = read_translations(parts, len(rows))
            sources = read_rows(table, required=SOURCES)
            if format == "fairseq":
                with file.open("w", encoding="utf-8") as output:
                    output.writelines(fairseq_lines(sources, translations, tokenizer))
            else:
                write(file, table_rows(sources, translations, wanted), wanted, out.suffix)
    accelerator.print(f"{len(rows)} rows -> {out}, {new / seconds:.1f} a second")


def table_rows(rows: Iterable[Row], translations: Iterable[list[Any]], columns: list[str]) -> Iterator[Row]:
    """A row for each hypothesis."""
    for row, hypotheses in zip(rows, translations, strict=True):
        for rank, one in enumerate(hypotheses, 1):
            values = {"guid": row["guid"], "domain": row.get("domain") or "", "source": row["text_a"],
                      "reference": row.get("label") or "", "rank": str(rank), "hypothesis": one.text,
                      "score": f"{one.score:.6f}", "ended": "yes" if one.ended else "no"}  # fmt: skip
            yield {name: values[name] for name in columns}


def fairseq_lines(rows: Iterable[Row], translations: Iterable[list[Any]], tokenizer: Any) -> Iterator[str]:
    """fairseq-generate's lines: source pieces, reference, then of each hypothesis its pieces, text and token scores.

    As there, scores are logarithms to the base 2, and a hypothesis has the mean of its tokens', the end included.
    """
    for number, (row, hypotheses) in enumerate(zip(rows, translations, strict=True)):
        yield f"S-{number}\t{' '.join(tokenizer.tokenize(row['text_a']))}\n"
        if row.get("label"):
            yield f"T-{number}\t{row['label']}\n"
        for one in hypotheses:
            pieces = [piece for piece in one.pieces if piece != tokenizer.eos_token]
            yield f"H-{number}\t{one.score / math.log(2):.6f}\t{' '.join(pieces)}\n"
            yield f"D-{number}\t{one.score / math.log(2):.6f}\t{one.text}\n"
            yield f"P-{number}\t{' '.join(f'{value / math.log(2):.4f}' for value in one.token_scores)}\n"


if __name__ == "__main__":
    run(main)
