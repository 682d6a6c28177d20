"""Attention that is read agrees with the library's eager attention, and nothing else changes."""

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, DebertaV2Config, PreTrainedModel

from metakd.data.encoding import Batch
from metakd.errors import InputError
from metakd.models.attention import AttentionCapture, attended, capturing, enable_reading, reading_attention
from metakd.models.views import ViewRequest, Views, compute_views
from tests.conftest import FAMILIES, tiny_config

LAYERS = ViewRequest(
    hidden=frozenset({0, 4}), scores=frozenset({1, 3}), probabilities=frozenset({2, 3}), projections=frozenset({3})
)


@pytest.fixture
def batch() -> Batch:
    """A row of 14 tokens and one of 6."""
    mask = torch.tensor([[1] * 14, [1] * 6 + [0] * 8])
    ids = torch.randint(4, 25, (2, 14), generator=torch.Generator().manual_seed(1)) * mask
    return {"input_ids": ids, "attention_mask": mask, "content_mask": mask, "domain": torch.zeros(2, dtype=torch.long)}


def classifier(family: str, **options: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(tiny_config(family), **options).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_views_agree_with_the_eager_path_of_the_library(family: str, batch: Batch) -> None:
    fused_logits = compute_views(classifier(family), batch).logits
    readable = classifier(family)
    enable_reading(readable)
    views = compute_views(readable, batch, LAYERS)
    expected = classifier(family, attn_implementation="eager")(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_attentions=True,
        output_hidden_states=True,
    )  # fmt: skip
    tokens = batch["attention_mask"].bool()
    for layer, scores in views.scores.items():
        assert_probabilities_agree(scores.softmax(-1), expected.attentions[layer - 1], tokens)
        for row in range(2):
            assert not attended(scores)[row][:, tokens[row]][:, :, ~tokens[row]].any()
    for layer, probabilities in views.probabilities.items():
        assert_probabilities_agree(probabilities, expected.attentions[layer - 1], tokens)
    for layer, states in views.hidden.items():
        assert_close(states[tokens], expected.hidden_states[layer][tokens])
    (query, key, _), seen = views.projections[3], attended(views.scores[3])
    assert_close((query @ key.transpose(2, 3) / query.shape[-1] ** 0.5)[seen], views.scores[3][seen])
    assert_close(views.logits, fused_logits)
    assert_close(views.logits, expected.logits)


def assert_probabilities_agree(actual: Tensor, expected: Tensor, tokens: Tensor) -> None:
    """Equal between a row's tokens, and 0 from a token to padding."""
    for row in range(len(tokens)):
        of_queries = actual[row][:, tokens[row]]
        assert_close(of_queries[:, :, tokens[row]], expected[row][:, tokens[row]][:, :, tokens[row]])
        assert not of_queries[:, :, ~tokens[row]].any()


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_what_was_requested_is_collected(family: str, batch: Batch) -> None:
    model = classifier(family)
    enable_reading(model)
    views = compute_views(model, batch, LAYERS)
    assert (set(views.hidden), set(views.scores), set(views.probabilities), set(views.projections)) == (
        {0, 4}, {1, 3}, {2, 3}, {3},
    )  # fmt: skip
    plain = compute_views(model, batch)
    assert plain == Views(plain.logits)


def plain_layer(causal: bool = False) -> nn.Module:
    layer = nn.Identity()
    layer.is_causal = causal
    layer.metakd_layer = 1
    return layer


def test_probabilities_are_those_before_dropout() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 2, 5, 8) for _ in range(3))
    with capturing(AttentionCapture(frozenset({1}), frozenset({1}))) as capture:
        reading_attention(plain_layer(), query, key, value, None, dropout=0.5)
    torch.testing.assert_close(capture.scores[1], query @ key.transpose(2, 3) / 8**0.5)
    torch.testing.assert_close(capture.probabilities[1], capture.scores[1].softmax(-1))


@pytest.mark.parametrize("kind", ["causal", "causal by option", "grouped heads", "added mask", "position bias"])
def test_attention_that_is_not_plain_cannot_be_read(kind: str) -> None:
    query, key, value = (torch.randn(2, 2, 5, 8) for _ in range(3))
    if kind == "grouped heads":
        key, value = key[:, :1], value[:, :1]
    mask = torch.zeros(2, 1, 5, 5) if kind == "added mask" else None
    options = {"causal by option": {"is_causal": True}, "position bias": {"position_bias": query}}.get(kind, {})
    with capturing(AttentionCapture(frozenset({1}))), pytest.raises(InputError, match="only plain attention"):
        reading_attention(plain_layer(kind == "causal"), query, key, value, mask, **options)


def test_a_family_without_the_attention_interface_is_refused() -> None:
    config = DebertaV2Config(
        vocab_size=25, num_hidden_layers=2, hidden_size=16, num_attention_heads=2, intermediate_size=32
    )
    with pytest.raises(InputError, match="DebertaV2ForSequenceClassification does not let its attention be read"):
        enable_reading(AutoModelForSequenceClassification.from_config(config))
