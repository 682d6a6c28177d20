"""Train only the word embeddings that the training rows use: most of a small model's weights are words."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel


class UsedWords(nn.Module):
    """A word embedding that trains the words of the training rows; all other words keep their values.

    Other words get no gradient, so no trained value would change if they were included. The optimizer and the gradient
    norm skip them, and they are not decayed.

    Args:
        table: the whole embedding [V, D].
        used: ids of the words that occur in the training rows, padding included.
    """

    def __init__(self, table: nn.Embedding, used: Tensor) -> None:
        super().__init__()
        row_of_id = torch.full((table.num_embeddings,), -1, device=used.device)
        row_of_id[used] = torch.arange(len(used), device=used.device)
        # No buffers: they never change, so no checkpoint needs them, and processes need not exchange them.
        self.table, self.row_of_id = table.weight.detach(), row_of_id
        self.weight = nn.Parameter(table.weight.detach()[used])
        padding = -1 if table.padding_idx is None else int(row_of_id[table.padding_idx])
        self.padding_idx = padding if padding >= 0 else None  # model and tokenizer may pad with different ids

    def forward(self, ids: Tensor) -> Tensor:
        """Ids [B, L] -> embeddings [B, L, D]; in training all ids must be used ones."""
        rows = self.row_of_id[ids]
        if self.training:
            return F.embedding(rows, self.weight, self.padding_idx)
        trained = F.embedding(rows.clamp(min=0), self.weight)
        return torch.where(rows.unsqueeze(-1) >= 0, trained, F.embedding(ids, self.table))


def train_used_words(module: nn.Module, used: Tensor) -> Callable[[], None]:
    """Replace the trained word embeddings of all models in a module; the returned function puts them back, trained.

    Embeddings that share their weights with another layer, or do more than look up, are left alone.

    Args:
        used: ids of the words that occur in the training rows, padding included, each once.
    """
    replaced: list[tuple[PreTrainedModel, nn.Embedding, UsedWords]] = []
    for model in [m for m in module.modules() if isinstance(m, PreTrainedModel)]:
        words = model.get_input_embeddings()
        if type(words) is nn.Embedding and words.weight.requires_grad and not is_tied(module, words):
            part = UsedWords(words, used.to(words.weight.device))
            model.set_input_embeddings(part)
            replaced.append((model, words, part))

    def undo() -> None:
        for model, words, part in replaced:
            with torch.no_grad():
                words.weight[used.to(words.weight.device)] = part.weight
            model.set_input_embeddings(words)

    return undo


def is_tied(module: nn.Module, words: nn.Embedding) -> bool:
    """Whether another layer has the same weights."""
    return any(other is not words and getattr(other, "weight", None) is words.weight for other in module.modules())
