"""Each feature shows what its name says, against a BERT computed module by module."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from metakd.data.encoding import Batch, encode, model_inputs
from metakd.data.tables import TRAINING
from metakd.models.attention import enable_reading
from metakd.models.domain_head import DomainHead
from metakd.objectives.features import FEATURES, FeatureLayer, compute_features, request_for
from tests.conftest import DOMAINS, make_tokenizer, tiny_config

LAYER = 3
WANTED: list[FeatureLayer] = [(name, LAYER if feature.by_layer else 0) for name, feature in FEATURES.items()]


@pytest.fixture
def batch(tables: dict[str, Path]) -> Batch:
    return encode(tables["train"], make_tokenizer(), 32, None, DOMAINS, TRAINING).batch(np.arange(5))


@pytest.mark.parametrize("feature", FEATURES)
@torch.no_grad()
def test_a_feature_is_what_its_name_says(feature: str, batch: Batch) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(tiny_config()).eval()
    enable_reading(model)
    head, layer = DomainHead(16, 3), model.bert.encoder.layer[LAYER - 1].attention.self
    states = model(**model_inputs(batch), output_hidden_states=True).hidden_states

    def projected(linear: torch.nn.Linear) -> Tensor:
        return linear(states[LAYER - 1]).unflatten(-1, (2, 8)).transpose(1, 2)  # [B, 2 heads, L, 8]

    query, key, value = map(projected, (layer.query, layer.key, layer.value))
    padding = ~batch["attention_mask"].bool()[:, None, None, :]
    scores = (query @ key.transpose(2, 3) / 8**0.5).masked_fill(padding, torch.finfo(torch.float32).min)
    expected = {
        "embedding": model.bert.embeddings(batch["input_ids"], batch["token_type_ids"]),
        "hidden": states[LAYER],
        "cls": states[LAYER][:, 0],
        "attention_scores": scores,
        "attention_probabilities": scores.softmax(-1),
        "query_key_relation": torch.stack([query, key], 1),
        "value_relation": value.unsqueeze(1),
        "transferable": head(states[4], batch["content_mask"], batch["domain"]),
    }
    values = compute_features(model, batch, WANTED, head).features[feature, LAYER if FEATURES[feature].by_layer else 0]
    torch.testing.assert_close(values, expected[feature], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("feature", FEATURES)
def test_a_row_has_the_axes_of_its_record(feature: str, batch: Batch) -> None:
    model = AutoModelForSequenceClassification.from_config(tiny_config()).eval()
    enable_reading(model)
    with torch.no_grad():
        features = compute_features(model, batch, WANTED, DomainHead(16, 3)).features
    values = features[feature, LAYER if FEATURES[feature].by_layer else 0]
    length = batch["input_ids"].shape[1]
    assert FEATURES[feature].row_shape(values, length) == tuple(values.shape[1:])
    sizes = {"L": 7, "D": 16, "H": 2, "d": 8, "P": values.shape[1]}
    assert FEATURES[feature].row_shape(values, 7) == tuple(sizes[axis] for axis in FEATURES[feature].axes)


def test_only_what_features_need_is_requested() -> None:
    request = request_for([("embedding", 0), ("cls", 2), ("attention_scores", 1), ("value_relation", 4)])
    assert (request.hidden, request.scores, request.projections) == ({0, 2}, {1}, {4})
    assert not request.probabilities and not request.transferable
    assert not request_for([("hidden", 2)]).reads_attention
    for feature in ("attention_scores", "attention_probabilities", "query_key_relation", "value_relation"):
        assert request_for([(feature, 1)]).reads_attention
