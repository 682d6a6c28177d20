"""Predict rows that come line by line as JSON, in their order and as soon as they come."""

from __future__ import annotations

import codecs
import io
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from accelerate import Accelerator

from metakd.data.encoding import encode_few
from metakd.data.formats import Row, TableError, parse_json_object
from metakd.data.logits_files import prediction_rows
from metakd.data.tables import UNLABELLED, check_columns, checked_texts
from metakd.export.sessions import OnnxClassifier
from metakd.training.inference import LoadedClassifier, infer_batches

STDIN = Path("standard input")  # in messages
CHUNK = 1 << 16  # bytes read at a time, at most
log = logging.getLogger(__name__)


def predict_stream(
    source: io.BufferedReader,
    sink: TextIO,
    predict: Callable[[Sequence[Row]], Iterator[Row]],
    skip_bad_lines: bool,
) -> None:
    """Write one line of JSON for each line of the source that is not blank, in the same order.

    Lines are predicted together as far as they have come, so a program that waits for its answer gets it.

    Args:
        predict: from rows with guid, text_a and text_b to their answers, see `predict_rows`.
        skip_bad_lines: whether a bad line is answered by its error instead of ending the stream.

    Raises:
        TableError: a line is no JSON object, or has no text; the lines before it are answered.
    """
    number = 0
    try:
        for raw_lines in lines_as_they_come(source):
            lines: list[Row | TableError] = []
            for raw in raw_lines:
                number += 1
                raw = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
                if raw.strip():
                    lines.append(read_line(raw, number))
                if lines and isinstance(lines[-1], TableError) and not skip_bad_lines:
                    write_answers(lines[:-1], sink, predict)
                    raise lines[-1]
            write_answers(lines, sink, predict)
    except BrokenPipeError:  # the reader has what it wanted; at its end Python would complain about the closed file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sink.fileno())


def lines_as_they_come(source: io.BufferedReader) -> Iterator[list[bytes]]:
    """Yield the whole lines of each chunk that the source has ready."""
    rest: list[bytes] = []
    while chunk := source.read1(CHUNK):
        first, *others = chunk.split(b"\n")
        rest.append(first)
        if others:
            yield [b"".join(rest), *others[:-1]]
            rest = [others[-1]]
    if last := b"".join(rest):
        yield [last]


def read_line(raw: bytes, number: int) -> Row | TableError:
    """The row in a line, or what is wrong with it. Its guid is its number where it has none."""
    try:
        values = parse_json_object(STDIN, raw.decode("utf-8", "surrogateescape"), number)
        row = {**values, "guid": str(number) if values.get("guid") is None else values["guid"]}
        check_columns(STDIN, number, list(row), UNLABELLED)
        read = {name: row.get(name) for name in ("guid", "text_a", "text_b")}
        return checked_texts(STDIN, number, read, UNLABELLED)
    except TableError as error:
        return error


def write_answers(
    lines: Sequence[Row | TableError], sink: TextIO, predict: Callable[[Sequence[Row]], Iterator[Row]]
) -> None:
    """Write the answers to lines that have come together."""
    rows = [line for line in lines if not isinstance(line, TableError)]
    answers = predict(rows) if rows else iter(())
    for line in lines:
        if isinstance(line, TableError):
            log.warning("%s", line)
        answer = {"error": str(line)} if isinstance(line, TableError) else next(answers)
        sink.write(json.dumps(answer, ensure_ascii=False) + "\n")
    sink.flush()


def predict_rows(
    rows: Sequence[Row],
    classifier: LoadedClassifier | OnnxClassifier,
    accelerator: Accelerator,
    columns: Sequence[str],
    abstain_below: float,
) -> Iterator[Row]:
    """The answers to rows in memory: these columns, see `metakd.data.logits_files.prediction_rows`."""
    guids, texts = [row["guid"] for row in rows], {name: [row[name] for row in rows] for name in ("text_a", "text_b")}
    encoded = encode_few(guids, texts, classifier.tokenizer, classifier.max_length)
    logits = np.zeros((len(rows), len(classifier.labels.names)), dtype=np.float32)
    for chosen, values in infer_batches(encoded, classifier.model, classifier.compute, accelerator, "predicting"):
        logits[chosen] = values
    return prediction_rows(guids, logits, classifier.labels, columns, abstain_below)
