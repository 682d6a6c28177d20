"""What a trained model leaves in its folder: a plain Hugging Face classifier, and beside it what trained with it.

`transformers.pipeline("text-classification", model=FOLDER)` needs nothing of ours. `metakd.json` says what the
model was trained for; other modules (domain head, projections) lie beside it as NAME.safetensors.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from metakd.errors import InputError
from metakd.manifests import write_json
from metakd.models.domain_head import DomainHead

INFO = "metakd.json"


@dataclass(frozen=True)
class ModelInfo:
    """What a model was trained for.

    Args:
        domains: domain names, in the order of the domain head's numbers.
        max_length: tokens its rows were cut to.
    """

    domains: list[str]
    max_length: int


def save_model(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, info: ModelInfo,
    beside: dict[str, nn.Module | None],
) -> None:  # fmt: skip
    """Write the model, its tokenizer and the modules that were trained beside it."""
    tokenizer.model_max_length = info.max_length  # so that `truncation=True` cuts where training did
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name, module in beside.items():
        if module is not None and any(True for _ in module.parameters()):
            save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / f"{name}.safetensors")
    write_json(folder / INFO, asdict(info))


def load_info(folder: str | Path) -> ModelInfo | None:
    """What `save_model` noted; None for a model that is not ours."""
    path = Path(folder) / INFO
    return ModelInfo(**json.loads(path.read_text("utf-8"))) if path.is_file() else None


def load_domain_head(folder: str | Path, width: int) -> tuple[DomainHead, list[str]] | None:
    """The domain head saved beside a model, and its domains; None if it was trained without."""
    path, info = Path(folder) / "domain_head.safetensors", load_info(folder)
    if info is None or not path.is_file():
        return None
    head = DomainHead(width, len(info.domains))
    try:
        head.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise InputError(f"{path} does not fit a model of width {width} over {info.domains}: {error}") from None
    return head, info.domains
