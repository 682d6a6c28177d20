"""A student of a few megabytes, without attention: the mean of static word vectors and one hidden layer.

The vectors start from the pretrained encoder: each token goes through it alone, principal components keep what
differs, and frequent tokens are made shorter (Tulkens & van Dongen 2024, model2vec). The length of a token's vector is
its weight in the mean, and is learned with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from metakd.models.cnn_lstm import SmallClassifier
from metakd.models.pooling import masked_mean

SMOOTHING = 1e-4  # a in the weight a / (a + p) of a token of probability p (Arora, Liang & Ma 2017, ICLR)
BATCH = 512  # tokens that go through the encoder together


class StaticConfig(PreTrainedConfig):
    """Sizes of a static student.

    Args:
        vocab_size: number of word vectors; at least the number of the tokenizer's ids.
        embedding_size: width E of a word vector.
        hidden_size: width of the hidden layer.
        dropout: dropout probability of the hidden layer.
        pad_token_id: marks padding if a call has no attention mask; None if no token is padding.
    """

    model_type = "metakd_static"

    vocab_size: int = 30522
    embedding_size: int = 64
    hidden_size: int = 128
    dropout: float = 0.1
    pad_token_id: int | None = 0

    @property
    def num_hidden_layers(self) -> int:
        return 1


class StaticForSequenceClassification(SmallClassifier):
    """Mean of word vectors, a ReLU layer, dropout, a linear layer."""

    config_class = StaticConfig

    def __init__(self, config: StaticConfig) -> None:
        super().__init__(config)
        self.dense = nn.Linear(config.embedding_size, config.hidden_size)
        self.post_init()

    def encode(self, embedded: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
        states = F.relu(self.dense(embedded)) * mask.unsqueeze(-1).to(embedded.dtype)
        return [states], F.relu(self.dense(masked_mean(embedded, mask)))


@torch.no_grad()
def static_vectors(encoder: PreTrainedModel, size: int, around: tuple[Sequence[int], Sequence[int]]) -> Tensor:
    """A vector of each token of an encoder's vocabulary [V, size], scaled to a mean length of 1.

    Args:
        encoder: without head.
        size: principal components that are kept; at most the encoder's width.
        around: ids of the special tokens that stand before and after a row.
    """
    training = encoder.training
    encoder.eval()
    count = encoder.get_input_embeddings().weight.shape[0]
    before, after = around
    vectors = []
    for start in range(0, count, BATCH):
        tokens = torch.arange(start, min(start + BATCH, count))
        rows = [torch.full_like(tokens, token) for token in before] + [tokens]
        ids = torch.stack([*rows, *(torch.full_like(tokens, token) for token in after)], dim=1).to(encoder.device)
        states = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        vectors.append(states[:, len(before)].float().cpu())
    encoder.train(training)
    centred = torch.cat(vectors)
    centred -= centred.mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred)  # in rising order
    components = centred @ directions[:, -size:].flip(1)
    chances = 1 / torch.arange(1, count + 1)  # ids are in falling order of frequency, which falls by Zipf's law
    weighted = components * (SMOOTHING / (SMOOTHING + chances / chances.sum()))[:, None]
    return weighted / weighted.norm(dim=1).mean()


AutoConfig.register(StaticConfig.model_type, StaticConfig)
AutoModelForSequenceClassification.register(StaticConfig, StaticForSequenceClassification)
