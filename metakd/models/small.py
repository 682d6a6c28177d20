"""Students that are no transformers: a convolutional and a recurrent classifier on the teacher's tokenizer.

Both are plain Hugging Face models. Importing this module registers them, so that afterwards
`AutoModelForSequenceClassification.from_pretrained(FOLDER)` and `transformers.pipeline("text-classification")` know
them. What stands at padding never counts: a row's logits are those that it has alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from metakd.errors import InputError

WORD_RANGE = 0.25  # fresh word embeddings are uniform in it, as in Kim's code


class TextCNNConfig(PreTrainedConfig):
    """Sizes of a TextCNN.

    Args:
        vocab_size: word embeddings; as many as the tokenizer has ids.
        embedding_size: E.
        filters: feature maps of each width.
        widths: tokens that a filter sees.
        dropout: of the pooled features.
        pad_token_id: tells padding where a caller gives no attention mask; None takes every token for one that counts.
    """

    model_type = "metakd_text_cnn"

    vocab_size: int = 30522
    embedding_size: int = 300
    filters: int = 100
    widths: tuple[int, ...] | list[int] = (3, 4, 5)
    dropout: float = 0.5
    pad_token_id: int | None = 0

    @property
    def hidden_size(self) -> int:
        """Width of the states: the feature maps of all widths side by side."""
        return self.filters * len(self.widths)

    @property
    def num_hidden_layers(self) -> int:
        return 1


class BiLSTMConfig(PreTrainedConfig):
    """Sizes of a BiLSTM.

    Args:
        vocab_size: word embeddings; as many as the tokenizer has ids.
        embedding_size: E.
        lstm_size: cells of each direction.
        num_hidden_layers: LSTM layers; the paper has one.
        dropout: between the layers, and before the last linear layer.
        pad_token_id: tells padding where a caller gives no attention mask; None takes every token for one that counts.
    """

    model_type = "metakd_bilstm"

    vocab_size: int = 30522
    embedding_size: int = 300
    lstm_size: int = 150
    num_hidden_layers: int = 1
    dropout: float = 0.1
    pad_token_id: int | None = 0

    @property
    def hidden_size(self) -> int:
        """Width of the states: both directions side by side."""
        return 2 * self.lstm_size


class SmallClassifier(PreTrainedModel):
    """What the two share: words in, dropout and a linear layer out. A subclass defines `encode`."""

    _input_embed_layer = "words"

    def __init__(self, config: TextCNNConfig | BiLSTMConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def encode(self, embedded: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
        """Token states and the row's features.

        Args:
            embedded: [B, L, E], zero at padding.
            mask: [B, L], true where there is a token.

        Returns:
            [B, L, hidden_size] of each layer, zero at padding; features [B, hidden_size].
        """
        raise NotImplementedError

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple:
        """Logits [B, C] and, if asked for, the embeddings [B, L, E] followed by each layer's [B, L, hidden_size].

        Args:
            input_ids, attention_mask: [B, L].
            token_type_ids: taken and not read; a pair's texts are told apart by the separator between them.
            labels: refused; losses are computed outside.
        """
        if labels is not None:
            raise ValueError(f"{type(self).__name__} computes no loss; take its logits")
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        mask = self._mask(input_ids, attention_mask)
        embedded = self.words(input_ids)
        embedded = embedded * mask.unsqueeze(-1).to(embedded.dtype)
        states, features = self.encode(embedded, mask)
        logits = self.classifier(self.dropout(features))
        output = SequenceClassifierOutput(
            logits=logits, hidden_states=(embedded, *states) if output_hidden_states else None
        )
        as_tuple = not (self.config.return_dict if return_dict is None else return_dict)
        return output.to_tuple() if as_tuple else output

    def _mask(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """[B, L], true where there is a token."""
        if attention_mask is not None:
            return attention_mask.bool()
        if self.config.pad_token_id is None:
            return torch.ones_like(input_ids, dtype=torch.bool)
        return input_ids != self.config.pad_token_id

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Words as in Kim's code, else what torch does: uniform, as wide as the fan-in (the LSTM's size) allows."""
        if isinstance(module, nn.Embedding):
            init.uniform_(module.weight, -WORD_RANGE, WORD_RANGE)
        elif isinstance(module, (nn.Conv1d, nn.Linear, nn.LSTM)):
            module.reset_parameters()


class TextCNNForSequenceClassification(SmallClassifier):
    """Convolutions over words, the maximum over time, dropout, a linear layer (Kim 2014, arXiv 1408.5882, section 2).

    A window is centred on its token (an even width reaches one token further to the right) and the row is padded with
    zeros around it. So there are as many windows as tokens, however short the row: every token has a state.
    """

    config_class = TextCNNConfig

    def __init__(self, config: TextCNNConfig) -> None:
        super().__init__(config)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.embedding_size, config.filters, width) for width in config.widths
        )
        self.post_init()

    def encode(self, embedded: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
        columns = embedded.transpose(1, 2)
        maps = [
            convolution(F.pad(columns, ((width - 1) // 2, width // 2)))
            for convolution, width in zip(self.convolutions, self.config.widths, strict=True)
        ]
        states = F.relu(torch.cat(maps, dim=1)).transpose(1, 2)
        states = states * mask.unsqueeze(-1).to(states.dtype)  # after a ReLU, a zero changes no maximum
        return [states], states.amax(1)


class BiLSTMForSequenceClassification(SmallClassifier):
    """Last states of both directions, a ReLU layer, a linear layer (Tang et al. 2019, arXiv 1903.12136, section 3.2).

    The backward direction's last state is the one at the first token. Rows are padded on the right.
    """

    config_class = BiLSTMConfig

    def __init__(self, config: BiLSTMConfig) -> None:
        super().__init__(config)
        sizes = [config.embedding_size] + [config.hidden_size] * (config.num_hidden_layers - 1)
        # One module a layer, since torch gives no states of the layers below the last one.
        self.layers = nn.ModuleList(
            nn.LSTM(size, config.lstm_size, batch_first=True, bidirectional=True) for size in sizes
        )
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()

    def encode(self, embedded: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
        mask = mask.cpu()  # packing takes lengths from there
        if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
            raise InputError('a BiLSTM reads rows padded on the right; set the tokenizer\'s padding_side to "right"')
        lengths = mask.sum(1).clamp(min=1)  # a row without tokens is read as one zero vector
        states: list[Tensor] = []
        for layer in self.layers:
            below = self.dropout(states[-1]) if states else embedded
            packed = pack_padded_sequence(below, lengths, batch_first=True, enforce_sorted=False)
            found, (last, _) = layer(packed)
            states.append(pad_packed_sequence(found, batch_first=True, total_length=embedded.shape[1])[0])
        return states, F.relu(self.dense(torch.cat([last[0], last[1]], dim=-1)))


def copy_words(model: PreTrainedModel, words: Tensor) -> None:
    """Start the model's word embeddings from those of another on the same tokenizer.

    Args:
        words: [V, E].

    Raises:
        InputError: the shapes differ.
    """
    weight = model.get_input_embeddings().weight
    if weight.shape != words.shape:
        raise InputError(
            f"word embeddings of shape {list(words.shape)} cannot start those of {type(model).__name__}, which have "
            f"shape {list(weight.shape)}; make vocab_size and embedding_size agree"
        )
    with torch.no_grad():
        weight.copy_(words)


AutoConfig.register(TextCNNConfig.model_type, TextCNNConfig)
AutoConfig.register(BiLSTMConfig.model_type, BiLSTMConfig)
AutoModelForSequenceClassification.register(TextCNNConfig, TextCNNForSequenceClassification)
AutoModelForSequenceClassification.register(BiLSTMConfig, BiLSTMForSequenceClassification)
