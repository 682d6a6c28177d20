"""Save and load model folders: a plain Hugging Face classifier, and files of ours beside it.

`transformers.pipeline("text-classification", model=FOLDER)` needs nothing of ours. `metakd.json` says how the model was
trained; auxiliary modules (domain head, projections) are saved as NAME.safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from metakd.errors import InputError
from metakd.manifests import write_json
from metakd.models.domain_head import DomainHead

INFO = "metakd.json"


@dataclass(frozen=True)
class ModelInfo:
    """How a model was trained.

    Args:
        domains: domain names, in the order of the domain head's numbers.
        max_length: tokens that its rows were cut to.
        recipe: of a teacher: the method file's `teacher` and, if they were used, its `prototypes`.
        starts_from: of a student: the weights that it started from.
        notes: what a reader of its results must know.
    """

    domains: list[str]
    max_length: int
    recipe: dict[str, Any] = field(default_factory=dict)
    starts_from: str = ""
    notes: list[str] = field(default_factory=list)


def save_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    info: ModelInfo,
    auxiliary_modules: Mapping[str, nn.Module | None],
) -> None:
    """Write a model, its tokenizer and the modules that were trained with it."""
    tokenizer.model_max_length = info.max_length  # so that `truncation=True` cuts where training did
    if tokenizer.is_fast:  # else its file holds the padding and truncation of its last call
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name, module in auxiliary_modules.items():
        if module is not None and any(True for _ in module.parameters()):
            save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / f"{name}.safetensors")
    write_json(folder / INFO, asdict(info))


def load_info(folder: str | Path) -> ModelInfo | None:
    """How a model of ours was trained; None for any other model."""
    path = Path(folder) / INFO
    return ModelInfo(**json.loads(path.read_text("utf-8"))) if path.is_file() else None


def load_domain_head(folder: str | Path, width: int) -> tuple[DomainHead, list[str]] | None:
    """The domain head saved with a model, and its domains; None if there is none."""
    path, info = Path(folder) / "domain_head.safetensors", load_info(folder)
    if info is None or not path.is_file():
        return None
    head = DomainHead(width, len(info.domains))
    try:
        head.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise InputError(f"{path} does not fit a model of width {width} over {info.domains}: {error}") from None
    return head, info.domains
