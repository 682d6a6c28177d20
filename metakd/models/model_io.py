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

from metakd.config import LONGEST_ROW
from metakd.errors import InputError
from metakd.manifests import write_json
from metakd.models.domain_head import DomainHead
from metakd.models.loading import first_not_finite
from metakd.models.model_files import reading, some

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
        own_labels_of: the domain whose classes alone it knows; "" for classes that all domains share.
    """

    domains: list[str]
    max_length: int
    recipe: dict[str, Any] = field(default_factory=dict)
    starts_from: str = ""
    notes: list[str] = field(default_factory=list)
    own_labels_of: str = ""


def save_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    info: ModelInfo,
    auxiliary_modules: Mapping[str, nn.Module | None],
) -> None:
    """Write a model, its tokenizer and the modules that were trained with it.

    Raises:
        InputError: a weight is not finite.
    """
    for module_name, module in {"the model": model, **auxiliary_modules}.items():
        tensor = first_not_finite(module) if module is not None else None
        if tensor is not None:
            raise InputError(
                f"the trained model is not saved: {tensor} of {module_name} holds NaN or infinity, so training "
                "diverged; lower the learning rate"
            )
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
    if not path.is_file():
        return None
    with reading(folder, INFO):
        content = json.loads(path.read_text("utf-8"))
    fault = info_fault(content)
    if fault is not None:
        raise InputError(
            f"{path} does not say how a model was trained: {fault}; make the model again, or delete the file to use "
            "the model as one of unknown training"
        )
    return ModelInfo(**content)


def info_fault(content: Any) -> str | None:
    """Why the content of an info file is not that of a `ModelInfo`; None if it is."""
    if not isinstance(content, dict):
        return "it holds no mapping"
    types: dict[str, type] = {
        "domains": list, "max_length": int, "recipe": dict, "starts_from": str, "notes": list, "own_labels_of": str,
    }  # fmt: skip
    for name, kind in types.items():
        if name not in content and name in ("domains", "max_length"):
            return f"{name} is missing"
        value: object = content.get(name, kind())
        if type(value) is not kind or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
            return f"{name} is {value!r}"
    if not 1 <= content["max_length"] <= LONGEST_ROW or len(set(content["domains"])) != len(content["domains"]):
        return f"max_length is not from 1 to {LONGEST_ROW}, or a domain occurs twice"
    unknown = sorted(set(content) - set(types))
    return f"nobody knows its {some(unknown)}" if unknown else None


def load_domain_head(folder: str | Path, width: int) -> tuple[DomainHead, list[str]] | None:
    """The domain head saved with a model, and its domains; None if there is none."""
    path, info = Path(folder) / "domain_head.safetensors", load_info(folder)
    if info is None or not path.is_file():
        return None
    head = DomainHead(width, len(info.domains))
    with reading(folder, "domain head"):
        tensors = load_file(path)
    try:
        head.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit a model of width {width} over {info.domains}: {error}") from None
    if (tensor := first_not_finite(head)) is not None:
        raise InputError(f"{path} is damaged: {tensor} holds NaN or infinity; make the model again")
    return head, info.domains
