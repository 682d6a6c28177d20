"""What a frozen teacher shows of its inside, computed once and read from disk in every epoch."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from metakd import manifests
from metakd.data.encoding import EncodedRows
from metakd.models.views import Need, Views, view
from metakd.training.inference import batches_over, to_device
from metakd.training.runtime import Together
from metakd.training.teachers import Teacher

log = logging.getLogger(__name__)
COMPLETE = "complete.json"


class TeacherCache:
    """Views of all rows in memory-mapped files, without padding, in the precision in which they were computed.

    Args:
        folder: of the files.
        lengths: tokens of each row [n].
        sample: views of some batch, for names, widths and precision.
    """

    def __init__(self, folder: Path, lengths: np.ndarray, sample: Views) -> None:
        self.folder, self.lengths = folder, lengths
        self.samples = {name: values[:1] for name, values in parts(sample).items()}
        self.starts: dict[str, np.ndarray] = {}
        self.files: dict[str, Tensor] = {}
        for name, values in self.samples.items():
            sizes = [np.prod(row_shape(name, values, length), dtype=np.int64) for length in range(lengths.max() + 1)]
            self.starts[name] = np.concatenate([[0], np.cumsum(np.array(sizes)[lengths])])

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(int(self.starts[name][-1]) * values.element_size() for name, values in self.samples.items())

    def open(self) -> None:
        """Map the files; they are made if they are not there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, values in self.samples.items():
            path, size = str(self.folder / f"{name}.bin"), int(self.starts[name][-1])
            self.files[name] = torch.from_file(path, shared=True, size=size, dtype=values.dtype)

    def block(self, name: str, row: int) -> Tensor:
        """A row's values in the file."""
        start, end = self.starts[name][row : row + 2]
        return self.files[name][start:end].view(row_shape(name, self.samples[name], int(self.lengths[row])))

    def write(self, rows: np.ndarray, views: Views) -> None:
        """Keep the views of these rows."""
        for name, values in parts(views).items():
            for row, padded in zip(rows, values, strict=True):
                block = self.block(name, row)
                block.copy_(padded[tuple(map(slice, block.shape))])

    def read(self, rows: np.ndarray) -> Views:
        """Views of these rows, padded to the longest of them with zeros; scores as what is not attended to."""
        found, length = {}, int(self.lengths[rows].max())
        for name, sample in self.samples.items():
            fill = torch.finfo(sample.dtype).min if name.startswith("attention") else 0
            found[name] = torch.full((len(rows), *row_shape(name, sample, length)), fill, dtype=sample.dtype)
            for row, padded in zip(rows, found[name], strict=True):
                block = self.block(name, row)
                padded[tuple(map(slice, block.shape))] = block
        return assembled(found)


def parts(views: Views) -> dict[str, Tensor]:
    """The tensors of a teacher's inside by name, kind and layer."""
    found = {f"hidden-{layer}": values for layer, values in views.hidden.items()}
    found |= {f"attention-{layer}": values for layer, values in views.attention.items()}
    found |= {f"probabilities-{layer}": values for layer, values in views.probabilities.items()}
    for layer, projected in views.projected.items():
        found |= {f"{kind}-{layer}": values for kind, values in zip(("query", "key", "value"), projected, strict=True)}
    return found if views.transferable is None else {**found, "transferable": views.transferable}


def assembled(found: dict[str, Tensor]) -> Views:
    """Views whose `parts` these are."""

    def layers(kind: str) -> dict[int, Tensor]:
        return {int(name.split("-")[1]): values for name, values in found.items() if name.startswith(kind + "-")}

    query, key, value = layers("query"), layers("key"), layers("value")
    projected = {layer: (query[layer], key[layer], value[layer]) for layer in query}
    return Views(
        None, layers("hidden"), layers("attention"), layers("probabilities"), projected, found.get("transferable")
    )


def row_shape(name: str, batch: Tensor, length: int) -> tuple[int, ...]:
    """Shape of one row of so many tokens: feature [D], states [L, D], attention [H, L, L], projected [H, L, d]."""
    kind = name.split("-")[0]
    if kind == "transferable":
        return (batch.shape[1],)
    if kind == "hidden":
        return (length, batch.shape[2])
    return (batch.shape[1], length, length if kind in ("attention", "probabilities") else batch.shape[3])


@torch.no_grad()
def cache_teacher(
    folder: Path, teacher: Teacher, rows: EncodedRows, need: Need, limit: float, accelerator: Accelerator
) -> TeacherCache | None:
    """Run the teacher over all rows and keep its views; None where they would not fit, and the teacher has to run.

    Processes write their shares into the same files. What an earlier run has finished is used again.

    Args:
        limit: most bytes; half of what is free on the disk is another limit.
    """
    with accelerator.autocast():
        sample = view(teacher.model, to_device(rows.batch(np.array([0])), accelerator.device), need, teacher.head)
    cache = TeacherCache(folder, rows.lengths, sample)
    folder.mkdir(parents=True, exist_ok=True)
    guids = hashlib.sha256("\n".join(rows.guids).encode("utf-8", "surrogateescape")).hexdigest()
    wanted: dict[str, Any] = {
        "rows": guids, "bytes": cache.bytes, "parts": sorted(cache.samples), "precision": accelerator.mixed_precision
    }  # fmt: skip
    # The main process decides: what is free may look different to another in a moment.
    together = Together(accelerator)
    done = together.agree(manifests.read(folder / COMPLETE) == wanted)
    if accelerator.is_main_process and not done:  # what a killed run has left would count as space that is taken
        for file in (folder / COMPLETE, *folder.glob("*.bin")):
            file.unlink(missing_ok=True)
    if not together.agree(done or cache.bytes <= min(limit, shutil.disk_usage(folder).free / 2)):
        log.info("the teacher runs in every step: its views of %d rows would take %.1f GB (training.teacher_cache_gb)",
                 len(rows), cache.bytes / 1e9)  # fmt: skip
        return None
    cache.open()
    if not done:
        for chosen, batch in batches_over(rows, accelerator, "teacher's inside"):
            with accelerator.autocast():
                cache.write(chosen, view(teacher.model, batch, need, teacher.head))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            manifests.write_json(folder / COMPLETE, wanted)
    return cache
