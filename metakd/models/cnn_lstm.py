"""Students without a transformer: a convolutional and a recurrent classifier on the teacher's tokenizer.

Both are plain Hugging Face models. Importing this module registers them, so that
`AutoModelForSequenceClassification.from_pretrained(FOLDER)` and `transformers.pipeline("text-classification")` can
load them. Padding never counts: the logits of a row do not depend on the other rows of its batch.
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

WORD_RANGE = 0.25  # fresh word embeddings are uniform in [-0.25, 0.25], as in Kim's code


class TextCNNConfig(PreTrainedConfig):
    """Sizes of a TextCNN.

    Args:
        vocab_size: number of word embeddings; at least the number of the tokenizer's ids.
        embedding_size: width E of a word embedding.
        filters: number of filters of each width.
        widths: numbers of tokens that a filter spans.
        dropout: dropout probability of the pooled features.
        pad_token_id: marks padding if a call has no attention mask; None if no token is padding.
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
        """Width of the hidden states: the filters of all widths, concatenated."""
        return self.filters * len(self.widths)

    @property
    def num_hidden_layers(self) -> int:
        return 1


class BiLSTMConfig(PreTrainedConfig):
    """Sizes of a BiLSTM.

    Args:
        vocab_size: number of word embeddings; at least the number of the tokenizer's ids.
        embedding_size: width E of a word embedding.
        lstm_size: width of each direction.
        num_hidden_layers: number of LSTM layers; the paper has one.
        dropout: dropout probability between the layers and before the last linear layer.
        pad_token_id: marks padding if a call has no attention mask; None if no token is padding.
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
        """Width of the hidden states: both directions, concatenated."""
        return 2 * self.lstm_size


class SmallClassifier(PreTrainedModel):
    """Common parts of both classifiers: word embeddings, dropout, a linear layer. A subclass defines `encode`."""

    _input_embed_layer = "words"

    def __init__(self, config: TextCNNConfig | BiLSTMConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def encode(self, embedded: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
        """Hidden states of each layer [B, L, hidden_size], zero at padding, and row features [B, hidden_size].

        Args:
            embedded: [B, L, E], zero at padding.
            mask: [B, L], true at tokens, false at padding.
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
        """Logits [B, C]; with `output_hidden_states` also embeddings [B, L, E] and each layer's [B, L, hidden_size].

        Args:
            input_ids, attention_mask: [B, L].
            token_type_ids: not used; the separator token already divides the two texts of a pair.
            labels: must be None.

        Raises:
            ValueError: there are labels; this model computes no loss.
        """
        if labels is not None:
            raise ValueError(f"{type(self).__name__} computes no loss; compute it from the logits")
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
        """[B, L], true at tokens, false at padding."""
        if attention_mask is not None:
            return attention_mask.bool()
        if self.config.pad_token_id is None:
            return torch.ones_like(input_ids, dtype=torch.bool)
        return input_ids != self.config.pad_token_id

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Word embeddings as in Kim's code; other weights as torch initialises them."""
        if isinstance(module, nn.Embedding):
            init.uniform_(module.weight, -WORD_RANGE, WORD_RANGE)
        elif isinstance(module, (nn.Conv1d, nn.Linear, nn.LSTM)):
            module.reset_parameters()


class TextCNNForSequenceClassification(SmallClassifier):
    """Convolutions over words, maximum over time, dropout, a linear layer (Kim 2014, arXiv 1408.5882, section 2).

    Each token has one window of every width, so each token has a hidden state, however short the row is. The window is
    centred on the token; an even width reaches one token further to the right. Zeros surround the row.
    """

    config_class = TextCNNConfig

    def __init__(self, config: TextCNNConfig) -> None:
        super().__init__(config)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.embedding_size, config.filters, width) for width in config.widths
        )
        self.post_init()

    def encode(self, embedded: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
        channels = embedded.transpose(1, 2)  # [B, E, L]
        maps = [
            convolution(F.pad(channels, ((width - 1) // 2, width // 2)))
            for convolution, width in zip(self.convolutions, self.config.widths, strict=True)
        ]
        states = F.relu(torch.cat(maps, dim=1)).transpose(1, 2)
        states = states * mask.unsqueeze(-1).to(states.dtype)  # zeros do not change a maximum after ReLU
        return [states], states.amax(1)


class BiLSTMForSequenceClassification(SmallClassifier):
    """Final states of both directions, a ReLU layer, a linear layer (Tang et al. 2019, arXiv 1903.12136, section 3.2).

    The backward direction ends at the first token. Rows must be padded on the right.
    """

    config_class = BiLSTMConfig

    def __init__(self, config: BiLSTMConfig) -> None:
        super().__init__(config)
        sizes = [config.embedding_size] + [config.hidden_size] * (config.num_hidden_layers - 1)
        # One module per layer: a torch LSTM of several layers returns the states of the last one only.
        self.layers = nn.ModuleList(
            nn.LSTM(size, config.lstm_size, batch_first=True, bidirectional=True) for size in sizes
        )
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()

    def encode(self, embedded: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
        if torch.compiler.is_exporting():
            return self.encode_padded(embedded, mask)
        mask = mask.cpu()  # pack_padded_sequence wants lengths on the CPU
        if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
            raise InputError('a BiLSTM needs rows padded on the right; set the tokenizer\'s padding_side to "right"')
        lengths = mask.sum(1).clamp(min=1)  # a row without tokens counts as one zero vector
        states: list[Tensor] = []
        for layer in self.layers:
            below = self.dropout(states[-1]) if states else embedded
            packed = pack_padded_sequence(below, lengths, batch_first=True, enforce_sorted=False)
            packed_states, (final, _) = layer(packed)
            states.append(pad_packed_sequence(packed_states, batch_first=True, total_length=embedded.shape[1])[0])
        return states, F.relu(self.dense(torch.cat([final[0], final[1]], dim=-1)))

    def encode_padded(self, embedded: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
        """`encode` in operations that a graph has; the packed form depends on values. Dropout is off."""
        lengths = mask.sum(1, keepdim=True).clamp(min=1)
        positions = torch.arange(mask.shape[1], device=mask.device)
        turned = (lengths - 1 - positions).clamp(min=0)  # a row backwards
        shown = (positions < lengths).unsqueeze(-1).to(embedded.dtype)
        states, features = [embedded], embedded
        for layer in self.layers:
            assert isinstance(layer, nn.LSTM)
            forwards = one_direction(layer, "")(states[-1])[0]
            backwards = one_direction(layer, "_reverse")(take(states[-1], turned))[0]
            features = torch.cat([take(each, lengths - 1)[:, 0] for each in (forwards, backwards)], dim=-1)
            states.append(torch.cat([forwards, take(backwards, turned)], dim=-1) * shown)
        return states[1:], F.relu(self.dense(features))


def take(values: Tensor, tokens: Tensor) -> Tensor:
    """Values [B, L, D] of these tokens [B, K]: [B, K, D]."""
    return values.gather(1, tokens.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def one_direction(lstm: nn.LSTM, suffix: str) -> nn.LSTM:
    """One direction of an LSTM of one layer, with the same parameters.

    Args:
        suffix: "" or "_reverse", of the parameters' names.
    """
    direction = nn.LSTM(lstm.input_size, lstm.hidden_size, batch_first=True)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        setattr(direction, name, getattr(lstm, name + suffix))
    return direction


def copy_word_embeddings(model: PreTrainedModel, words: Tensor) -> None:
    """Copy the word embeddings [V, E] of another model with the same tokenizer into this model.

    Raises:
        InputError: the shapes differ.
    """
    weight = model.get_input_embeddings().weight
    if weight.shape != words.shape:
        raise InputError(
            f"word embeddings of shape {list(words.shape)} do not fit {type(model).__name__}, which has shape "
            f"{list(weight.shape)}; make vocab_size and embedding_size agree"
        )
    with torch.no_grad():
        weight.copy_(words)


AutoConfig.register(TextCNNConfig.model_type, TextCNNConfig)
AutoConfig.register(BiLSTMConfig.model_type, BiLSTMConfig)
AutoModelForSequenceClassification.register(TextCNNConfig, TextCNNForSequenceClassification)
AutoModelForSequenceClassification.register(BiLSTMConfig, BiLSTMForSequenceClassification)
