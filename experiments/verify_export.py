"""Compare exported files again with the model that they came from, on this machine and without that model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from metakd.cli import run
from metakd.errors import InputError, name_list
from metakd.export.layout import EXPECTED, EXPORT
from metakd.machine import machine_info
from metakd.manifests import changed_afterwards, content_hash, read_json
from metakd.ranges import Count, Range


def main(
    model: Path,
    table: Path,
    max_loss: Annotated[float, Range(0)] | None = None,
    threads: Count = 1,
) -> None:
    """Print what each file of export.py loses here; the exit code is 2 if one loses too much.

    Processors multiply 8-bit numbers in different ways, so a file may lose more on another one. The logits of the model
    lie beside the files, so the model itself is not needed.

    Args:
        model: folder of the files.
        table: the labelled rows that they were exported with.
        max_loss: points of accuracy that a file may lose with 95 % confidence; by default as it was exported.
        threads: that it computes with.
    """
    facts = read_json(model / EXPORT)
    if not (model / EXPORT).is_file():
        raise InputError(f"{model} holds no {EXPORT}; name a folder that export.py wrote")
    if not {"files", "table", "table_hash", "max_loss", "machine"} <= facts.keys():
        raise InputError(f"{model / EXPORT} is damaged; export the model again")
    files = [model / name for name in facts["files"] if (model / name).is_file()]
    for path in (*files, model / EXPECTED):
        if not path.is_file() or (change := changed_afterwards(path, verify=True)):
            what = f"was changed after it was written: {change}" if path.is_file() else "is missing"
            raise InputError(f"{path} {what}; copy it again, or export the model again")
    if not files:
        raise InputError(f"{model} holds none of {name_list(facts['files'])}; export the model again")
    for name in facts["files"]:
        if not (model / name).is_file():
            print(f"{model / name}: is not there, and is left out")
    if content_hash(table) != facts["table_hash"]:
        raise InputError(f"{table} is not the table that the files were exported with, which was {facts['table']}")
    import numpy as np

    from metakd.data.logits_files import read_logits
    from metakd.data.tables import domain_names
    from metakd.export.exporting import Reference, in_words
    from metakd.export.sessions import load_onnx

    exported = load_onnx(files[0])
    domain = exported.labels.domain
    rows = exported.encode(table, domain_names(table, domain), domain)
    logits = read_logits(model / EXPECTED, exported.labels, rows.guids[:], np.ones(len(rows), dtype=bool))
    reference = Reference(rows, logits, facts["max_loss"] if max_loss is None else max_loss)
    for place, machine in (("exported", facts["machine"]), ("here", machine_info("torch", "onnx", "onnxruntime"))):
        print(f"{place}: {', '.join(f'{name} {value}' for name, value in machine.items())}")
    lost = []
    for file in files:
        loss = reference.loss(file, threads)
        print(f"{file}: {in_words(loss)}")
        if loss.agreement < 1 and loss.highest > reference.max_loss:
            lost.append(file.name)
    if lost:
        raise InputError(f"{' and '.join(lost)} may lose more than {reference.max_loss:g} points on this machine")


if __name__ == "__main__":
    run(main)
