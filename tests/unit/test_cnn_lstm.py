from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from metakd.errors import InputError
from metakd.models.classifier import is_classifier
from metakd.models.cnn_lstm import (
    BiLSTMConfig,
    BiLSTMForSequenceClassification,
    TextCNNConfig,
    TextCNNForSequenceClassification,
    copy_word_embeddings,
)
from metakd.models.views import ViewRequest, compute_views
from tests.conftest import make_tokenizer, tiny_config

LABELS = {"id2label": {0: "bad", 1: "good", 2: "so-so"}, "label2id": {"bad": 0, "good": 1, "so-so": 2}}


def text_cnn(dropout: float = 0.0) -> PreTrainedModel:
    torch.manual_seed(1)
    return TextCNNForSequenceClassification(
        TextCNNConfig(vocab_size=25, embedding_size=8, filters=6, widths=(1, 3, 4, 5), dropout=dropout, **LABELS)
    ).eval()


def bilstm(dropout: float = 0.0) -> PreTrainedModel:
    torch.manual_seed(1)
    return BiLSTMForSequenceClassification(
        BiLSTMConfig(vocab_size=25, embedding_size=8, lstm_size=6, num_hidden_layers=2, dropout=dropout, **LABELS)
    ).eval()


BOTH = pytest.mark.parametrize("make", [text_cnn, bilstm])


def rows(lengths: tuple[int, ...], size: int) -> tuple[Tensor, Tensor]:
    """Random ids [B, size], at padding too, and the attention mask."""
    generator = torch.Generator().manual_seed(5)
    mask = (torch.arange(size) < torch.tensor(lengths).unsqueeze(1)).long()
    return torch.randint(1, 25, (len(lengths), size), generator=generator), mask


@BOTH
def test_padding_never_counts(make: Callable[[], PreTrainedModel]) -> None:
    model, lengths = make(), (1, 9, 2, 4, 6)
    ids, mask = rows(lengths, 40)
    for size in (9, 12, 40):
        padded = model(ids[:, :size], mask[:, :size], output_hidden_states=True)
        for i, length in enumerate(lengths):
            alone = model(ids[i : i + 1, :length], output_hidden_states=True)
            torch.testing.assert_close(padded.logits[i], alone.logits[0], rtol=0, atol=1e-6)
            for states, states_alone in zip(padded.hidden_states, alone.hidden_states, strict=True):
                torch.testing.assert_close(states[i, :length], states_alone[0], rtol=0, atol=1e-6)
                assert not states[i, length:].any()


@BOTH
def test_without_a_mask_the_padding_token_marks_padding(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    ids, mask = rows((3, 7), 9)
    torch.testing.assert_close(model(ids * mask).logits, model(ids, mask).logits, rtol=0, atol=1e-6)
    model.config.pad_token_id = None
    assert not torch.allclose(model(ids * mask).logits, model(ids, mask).logits)


@BOTH
def test_a_row_without_tokens_has_finite_logits(make: Callable[[], PreTrainedModel]) -> None:
    ids, mask = rows((0, 5), 5)
    assert make()(ids, mask).logits.isfinite().all()


def test_text_cnn_by_loops() -> None:
    model = text_cnn()
    ids, mask = rows((7,), 9)
    output = model(ids, mask, output_hidden_states=True)
    words, weights = model.words.weight[ids[0, :7]].tolist(), model.state_dict()
    features, states = [], output.hidden_states[1][0].tolist()
    for number, width in enumerate((1, 3, 4, 5)):
        kernel = weights[f"convolutions.{number}.weight"].tolist()  # [filter][embedding][place in the window]
        bias = weights[f"convolutions.{number}.bias"].tolist()
        for feature in range(6):
            largest = 0.0
            for centre in range(7):
                value = bias[feature]
                for place in range(width):
                    position = centre + place - (width - 1) // 2
                    if 0 <= position < 7:
                        value += sum(kernel[feature][e][place] * words[position][e] for e in range(8))
                assert states[centre][6 * number + feature] == pytest.approx(max(value, 0.0), abs=1e-6)
                largest = max(largest, value)
            features.append(largest)
    expected = weights["classifier.weight"] @ torch.tensor(features) + weights["classifier.bias"]
    torch.testing.assert_close(output.logits[0], expected, rtol=1e-5, atol=1e-6)


def test_bilstm_equals_torch_lstm_on_each_row() -> None:
    model = bilstm()
    ids, mask = rows((9, 5, 2), 12)
    lstm = nn.LSTM(8, 6, num_layers=2, bidirectional=True)
    weights = {
        name.replace("_l0", f"_l{layer}"): value
        for layer in (0, 1)
        for name, value in model.layers[layer].state_dict().items()
    }
    lstm.load_state_dict(weights)
    output = model(ids, mask, output_hidden_states=True)
    for i, length in enumerate((9, 5, 2)):
        states, _ = lstm(model.words(ids[i, :length]))
        torch.testing.assert_close(output.hidden_states[2][i, :length], states, rtol=1e-5, atol=1e-6)
        row = torch.cat([states[-1, :6], states[0, 6:]])  # the backward direction ends at the first token
        expected = model.classifier(model.dense(row).clamp(min=0))
        torch.testing.assert_close(output.logits[i], expected, rtol=1e-5, atol=1e-6)


def test_the_bilstm_of_an_exported_graph_equals_the_packed_one() -> None:
    config = BiLSTMConfig(vocab_size=20, embedding_size=4, lstm_size=3, num_hidden_layers=2, num_labels=2)
    model = BiLSTMForSequenceClassification(config).eval()
    embedded, mask = torch.randn(4, 6, 4), torch.tensor([6, 3, 1, 0])[:, None] > torch.arange(6)
    embedded = embedded * mask[..., None]
    (packed, features), (padded, other) = model.encode(embedded, mask), model.encode_padded(embedded, mask)
    torch.testing.assert_close(other, features)
    for one, two in zip(padded, packed, strict=True):
        torch.testing.assert_close(one, two)


def test_bilstm_drops_out_between_layers() -> None:
    model = bilstm(0.5).train()
    ids, mask = rows((9, 5), 9)
    one, other = (model(ids, mask, output_hidden_states=True).hidden_states for _ in range(2))
    assert [torch.equal(a, b) for a, b in zip(one, other, strict=True)] == [True, True, False]


def test_bilstm_refuses_padding_on_the_left() -> None:
    ids, mask = rows((3, 7), 7)
    with pytest.raises(InputError, match="padding_side"):
        bilstm()(ids, mask.flip(1))


@BOTH
def test_a_loaded_model_equals_the_saved_one(make: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    model = make()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is type(model) and not loaded.training
    assert is_classifier(loaded.config)
    assert (loaded.config.id2label, loaded.config.label2id) == (LABELS["id2label"], LABELS["label2id"])
    assert loaded.config.hidden_size == model.config.hidden_size
    assert loaded.config.num_hidden_layers == model.config.num_hidden_layers
    assert not hasattr(loaded.config, "num_attention_heads")
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=0, atol=0)
    ids, mask = rows((3, 7), 9)
    assert torch.equal(loaded(ids, mask).logits, model(ids, mask).logits)


@BOTH
def test_every_weight_is_initialised(make: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    model = make()
    missing = {"classifier.weight", "convolutions.1.bias", "layers.1.bias_hh_l0"} & model.state_dict().keys()
    saved = {name: value for name, value in model.state_dict().items() if name not in missing}
    model.save_pretrained(tmp_path, state_dict=saved)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    for network in (model, loaded):  # loading initialises the weights that the folder lacks
        for value in network.parameters():
            assert value.abs().max() <= 1 and value.std() > 0.03
    for name, value in loaded.state_dict().items():  # and keeps all others
        assert torch.equal(value, model.state_dict()[name]) == (name not in missing)


@BOTH
def test_pipeline(make: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    model, tokenizer = make(), make_tokenizer()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    classify = transformers.pipeline("text-classification", model=str(tmp_path), device="cpu", top_k=None)
    texts = ["good", "the film was very dull and the plot poor", "lovely"]
    for text, one, batched in zip(texts, classify(texts), classify(texts, batch_size=3), strict=True):
        scores = model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(0).tolist()
        expected = dict(zip(["bad", "good", "so-so"], scores, strict=True))
        for entries in (one, batched):
            assert {entry["label"]: entry["score"] for entry in entries} == pytest.approx(expected, abs=1e-6)


@BOTH
def test_views_by_layer(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    ids, mask = rows((3, 7), 9)
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    layers = range(model.config.num_hidden_layers + 1)
    views = compute_views(model, batch, ViewRequest(hidden=frozenset(layers)))
    widths = [8] + [model.config.hidden_size] * model.config.num_hidden_layers
    assert [views.hidden[layer].shape for layer in layers] == [(2, 9, width) for width in widths]
    torch.testing.assert_close(views.hidden[0][1, :7], model.get_input_embeddings()(ids[1, :7]))
    assert views.logits.shape == (2, 3) and not views.scores
    assert model(ids, mask).hidden_states is None


def test_text_cnn_pools_its_hidden_states() -> None:
    model = text_cnn()
    ids, mask = rows((3, 7), 9)
    output = model(ids, mask, output_hidden_states=True)
    pooled = output.hidden_states[1].masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).max(1).values
    torch.testing.assert_close(output.logits, model.classifier(pooled), rtol=1e-5, atol=1e-6)


@BOTH
def test_gradients_reach_every_parameter_and_no_padding(make: Callable[[], PreTrainedModel]) -> None:
    model = make().train()
    ids, mask = rows((6, 9, 8, 7), 12)
    ids = torch.where(mask.bool(), ids.clamp(max=23), 24)
    model(ids, mask).logits.square().sum().backward()
    for name, value in model.named_parameters():
        assert value.grad is not None and value.grad.any(), name
    assert not model.words.weight.grad[24].any()


@BOTH
def test_two_passes_with_one_seed_are_equal(make: Callable[[float], PreTrainedModel]) -> None:
    model = make(0.5)
    ids, mask = rows((3, 7, 1), 9)
    assert torch.equal(model(ids, mask).logits, model(ids, mask).logits)
    model.train()
    passes = []
    for _ in range(2):
        torch.manual_seed(4)
        model.zero_grad()
        logits = model(ids, mask).logits
        logits.sum().backward()
        passes.append((logits, model.words.weight.grad.clone()))
    assert all(torch.equal(one, other) for one, other in zip(*passes, strict=True))
    assert not torch.equal(passes[0][0], model(ids, mask).logits)  # another seed draws other dropout masks


@BOTH
def test_tuples_on_request_and_no_loss(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    ids, mask = rows((3, 7), 9)
    as_tuple = model(ids, mask, return_dict=False)
    assert len(as_tuple) == 1 and torch.equal(as_tuple[0], model(ids, mask).logits)
    with pytest.raises(ValueError, match="computes no loss"):
        model(ids, mask, labels=torch.zeros(2, dtype=torch.long))


@BOTH
def test_word_embeddings_are_copied_from_a_teacher(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    words = AutoModelForSequenceClassification.from_config(tiny_config(width=8)).get_input_embeddings().weight
    copy_word_embeddings(model, words)
    assert torch.equal(model.get_input_embeddings().weight, words) and model.words.weight.requires_grad
    wide = AutoModelForSequenceClassification.from_config(tiny_config(width=16)).get_input_embeddings().weight
    with pytest.raises(InputError, match=r"shape \[25, 16\] .* shape \[25, 8\]"):
        copy_word_embeddings(model, wide)
