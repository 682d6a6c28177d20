"""Static word vectors and their student, against scikit-learn, single passes and hand-worked values."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from transformers import AutoModel

from metakd.data.tokenizers import tokens_around
from metakd.models.static_words import SMOOTHING, StaticConfig, StaticForSequenceClassification, static_vectors
from tests.conftest import make_tokenizer, tiny_config


def test_vectors_are_weighted_principal_components_of_single_tokens() -> None:
    torch.manual_seed(0)
    encoder, tokenizer = AutoModel.from_config(tiny_config()), make_tokenizer()
    around = tokens_around(tokenizer)
    assert around == ([tokenizer.cls_token_id], [tokenizer.sep_token_id])
    vectors = static_vectors(encoder, 3, around).numpy()
    states = []
    with torch.no_grad():
        for token in range(encoder.config.vocab_size):
            ids = torch.tensor([[*around[0], token, *around[1]]])
            states.append(encoder.eval()(input_ids=ids).last_hidden_state[0, 1].numpy())
    count = len(states)
    expected = PCA(3).fit_transform(np.stack(states))
    zipf = np.array([1 / rank for rank in range(1, count + 1)])
    expected = expected * (SMOOTHING / (SMOOTHING + zipf / zipf.sum()))[:, None]
    expected /= np.linalg.norm(expected, axis=1).mean()
    signs = np.sign((expected * vectors).sum(0))  # a component may point either way
    np.testing.assert_allclose(vectors, expected * signs, atol=1e-4)


def test_logits_by_hand_and_alone_or_in_a_batch() -> None:
    config = StaticConfig(vocab_size=4, embedding_size=2, hidden_size=2, num_labels=2, dropout=0.0)
    model = StaticForSequenceClassification(config).eval()
    with torch.no_grad():
        model.words.weight.copy_(torch.tensor([[9.0, 9], [1, 0], [0, 2], [-4, 0]]))
        model.dense.weight.copy_(torch.eye(2))
        model.dense.bias.zero_()
        model.classifier.weight.copy_(torch.tensor([[1.0, 0], [1, 1]]))
        model.classifier.bias.copy_(torch.tensor([0.0, 0.5]))
        ids = torch.tensor([[1, 2, 0], [3, 2, 2]])
        logits = model(ids, attention_mask=(ids > 0).long()).logits
    # The mean of row 1 is (0.5, 1); of row 2 (-4/3, 4/3), of which ReLU leaves (0, 4/3).
    np.testing.assert_allclose(logits, [[0.5, 2.0], [0.0, 4 / 3 + 0.5]], rtol=1e-6)
    np.testing.assert_allclose(model(ids[:1, :2]).logits.detach(), logits[:1], rtol=1e-6)


@pytest.mark.parametrize("types", [True, False])
def test_special_tokens_around_a_row(types: bool) -> None:
    tokenizer = make_tokenizer(types=types)
    before, after = tokens_around(tokenizer)
    middle = tokenizer("a", add_special_tokens=False)["input_ids"]
    assert [*before, *middle, *after] == tokenizer("a")["input_ids"]
