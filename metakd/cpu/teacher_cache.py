"""A frozen teacher's features, computed once and read from disk in every epoch."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metakd import manifests
from metakd.data.encoding import Batch, EncodedRows
from metakd.data.row_store import allocate
from metakd.objectives.features import FEATURES, FeatureLayer
from metakd.steps import Processes

log = logging.getLogger(__name__)
COMPLETE = "complete.json"
Compute = Callable[[np.ndarray, Batch], dict[FeatureLayer, Tensor]]


class FeatureCache:
    """Features of all rows in memory-mapped files, without padding, in the precision in which they were computed.

    Args:
        folder: of the files.
        lengths: tokens of each row [n].
        sample: features of any batch, for their widths and types.
    """

    def __init__(self, folder: Path, lengths: np.ndarray, sample: dict[FeatureLayer, Tensor]) -> None:
        self.folder, self.lengths = folder, lengths
        self.samples = {key: values[:1] for key, values in sample.items()}
        self.starts: dict[FeatureLayer, np.ndarray] = {}
        self.files: dict[FeatureLayer, Tensor] = {}
        for key in self.samples:
            sizes = [np.prod(self.row_shape(key, n), dtype=np.int64) for n in range(lengths.max() + 1)]
            self.starts[key] = np.concatenate([[0], np.cumsum(np.array(sizes)[lengths])])

    def row_shape(self, key: FeatureLayer, length: int) -> tuple[int, ...]:
        return FEATURES[key[0]].row_shape(self.samples[key], length)

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(self.paths().values())

    def paths(self) -> dict[Path, int]:
        """The file of each feature and its size in bytes."""
        sizes = {key: int(self.starts[key][-1]) * values.element_size() for key, values in self.samples.items()}
        return {self.path(key): size for key, size in sizes.items()}

    def path(self, key: FeatureLayer) -> Path:
        return self.folder / f"{key[0]}-{key[1]}.bin"

    def open(self) -> None:
        """Map the files, which have been allocated."""
        for key, values in self.samples.items():
            size = int(self.starts[key][-1])
            self.files[key] = torch.from_file(str(self.path(key)), shared=True, size=size, dtype=values.dtype)

    def row(self, key: FeatureLayer, row: int) -> Tensor:
        """A row's values in the file."""
        start, end = self.starts[key][row : row + 2]
        return self.files[key][start:end].view(self.row_shape(key, int(self.lengths[row])))

    def write(self, rows: np.ndarray, features: dict[FeatureLayer, Tensor]) -> None:
        """Keep the features of these rows."""
        for key, values in features.items():
            for row, padded in zip(rows, values, strict=True):
                target = self.row(key, row)
                target.copy_(padded[tuple(map(slice, target.shape))])

    def read(self, rows: np.ndarray) -> dict[FeatureLayer, Tensor]:
        """Features of these rows, padded with zeros to the longest of them; losses mask the padding."""
        features, longest = {}, int(self.lengths[rows].max())
        for key, sample in self.samples.items():
            features[key] = torch.zeros(len(rows), *self.row_shape(key, longest), dtype=sample.dtype)
            for row, padded in zip(rows, features[key], strict=True):
                values = self.row(key, row)
                padded[tuple(map(slice, values.shape))] = values
        return features


def cache_features(
    folder: Path,
    compute: Compute,
    batches: Iterable[tuple[np.ndarray, Batch]],
    rows: EncodedRows,
    precision: str,
    limit: float,
    processes: Processes,
) -> FeatureCache | None:
    """Compute the features of all rows and keep them; None where they would not fit, and the teacher has to run.

    Processes write their shares into the same files. A cache that an earlier run finished is used again.

    Args:
        compute: features of the rows with these numbers, given as a batch too.
        batches: this process's share of the rows.
        precision: in which `compute` runs.
        limit: largest size in bytes; the other limit is half of the free disk space.

    Raises:
        OSError: the disk is full all the same.
    """
    first = np.array([0])
    cache = FeatureCache(folder, rows.lengths, compute(first, rows.batch(first)))
    folder.mkdir(parents=True, exist_ok=True)
    guids = hashlib.sha256("\n".join(rows.guids).encode("utf-8", "surrogateescape")).hexdigest()
    content = {
        "rows": guids,
        "bytes": cache.bytes,
        "features": sorted(f"{name}-{layer}" for name, layer in cache.samples),
        "precision": precision,
    }
    # The main process decides: free space may look different to another process a moment later.
    whole = all(path.is_file() and path.stat().st_size == size for path, size in cache.paths().items())
    done = processes.agree(whole and manifests.read_json(folder / COMPLETE) == content)
    if processes.main and not done:  # files of a killed run would count as used space
        for file in (folder / COMPLETE, *folder.glob("*.bin")):
            file.unlink(missing_ok=True)
    if not processes.agree(done or cache.bytes <= min(limit, shutil.disk_usage(folder).free / 2)):
        log.info(
            "the teacher runs in every step: features of %d rows would take %.1f GB (task.training.teacher_cache_gb)",
            len(rows), cache.bytes / 1e9,
        )  # fmt: skip
        return None
    if processes.main and not done:
        for path, size in cache.paths().items():
            allocate(path, size)
    processes.wait()
    cache.open()
    if not done:
        for chosen, batch in batches:
            cache.write(chosen, compute(chosen, batch))
        processes.wait()
        if processes.main:
            manifests.write_json(folder / COMPLETE, content)
    return cache
