"""What makes training fast changes nothing but the order of random numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from metakd.data.encoding import EncodedRows, encode
from metakd.data.tables import TRAINING
from metakd.models.attention import NAME
from metakd.models.dropout import FastDropout, drop, fast_dropout
from metakd.models.words import UsedWords, train_used_words
from metakd.training.loop import parameter_groups
from metakd.training.tuning import tuned
from tests.conftest import make_tokenizer, tiny_config


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_zeroes_a_share_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.ones(1001, 301, dtype=dtype, requires_grad=True)
    found = drop(values, p)
    kept = torch.tensor(1 / (1 - p), dtype=dtype)
    assert set(found.detach().unique().tolist()) == {0.0, kept.item()}
    count = values.numel()
    share = (found == 0).double().mean().item()
    assert share == pytest.approx(p, abs=5 * (p * (1 - p) / count) ** 0.5)  # five standard errors
    rows = (found == 0).double().mean(1)  # no row and no neighbour is special
    assert rows.std().item() == pytest.approx((p * (1 - p) / 301) ** 0.5, rel=0.15)
    zero = (found == 0).double().flatten()
    together = (zero[1:] * zero[:-1]).mean().item()
    assert together == pytest.approx(p * p, abs=5 * (p / count) ** 0.5)
    found.sum().backward()
    assert torch.equal(values.grad, found.detach())  # the gradient passes where the value did


def test_dropout_is_that_of_the_seed() -> None:
    values = torch.randn(33, 7)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(drop(values, 0.3))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_dropout_layers_are_fast_ones_for_a_while() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2))
    values = torch.ones(4, 2)
    with fast_dropout(model):
        assert type(model[0]) is FastDropout
        assert torch.equal(model[0].eval()(values), values)
    assert type(model[0]) is nn.Dropout


@pytest.mark.parametrize(("before", "within"), [("sdpa", NAME), ("eager", "eager"), (NAME, NAME)])
def test_a_model_is_as_it_was_after_training(before: str, within: str, rows: EncodedRows) -> None:
    model = AutoModelForSequenceClassification.from_config(tiny_config(dropout=0.1), attn_implementation=before)
    kinds = [type(module) for module in model.modules()]
    with tuned(model, rows, torch.device("cpu")):
        assert model.config._attn_implementation == within
        assert {FastDropout, UsedWords} <= {type(module) for module in model.modules()}
    assert model.config._attn_implementation == before
    assert [type(module) for module in model.modules()] == kinds


@pytest.fixture
def rows(tables: dict[str, Path]) -> EncodedRows:
    return encode(tables["train"], make_tokenizer(), 32, required=TRAINING)


def test_used_ids_against_the_rows_themselves(rows: EncodedRows) -> None:
    assert rows.used_ids().tolist() == sorted({0, *(i for ids in rows.tokens["input_ids"] for i in ids)})
    some = rows.select(np.array([5, 2]))
    assert some.used_ids().tolist() == sorted({0, *(i for ids in some.tokens["input_ids"] for i in ids)})


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "modernbert"])
def test_training_the_used_words_is_training_all_of_them(family: str, rows: EncodedRows) -> None:
    """Steps of AdamW on rows that lack some words: the same losses, the same weights where words are used."""
    few = rows.select(np.arange(3))
    used = torch.from_numpy(few.used_ids())
    batch = few.batch(np.arange(3))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    found = []
    for compact in (False, True):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(tiny_config(family))
        before = model.get_input_embeddings().weight.detach().clone()

        def steps(model: nn.Module = model) -> list[float]:
            optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-2)
            losses = []
            for _ in range(5):
                loss = model(**inputs, labels=torch.tensor([0, 1, 1])).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.item())
            return losses

        if compact:
            with train_used_words(model, used):
                assert isinstance(model.get_input_embeddings(), UsedWords)
                assert model.get_input_embeddings().weight.shape[0] == len(used) < 25
                losses = steps()
                everything = torch.arange(25).repeat(1, 1)[:, :20]  # words that no row has are known outside training
                inside = model.eval()(everything).logits
            torch.testing.assert_close(model(everything).logits, inside)
        else:
            losses = steps(model.train())
        found.append((losses, model.get_input_embeddings().weight.detach(), before))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    unused = torch.ones(25, dtype=torch.bool)
    unused[used] = False
    torch.testing.assert_close(found[1][1][~unused], found[0][1][~unused], rtol=1e-4, atol=1e-5)
    assert torch.equal(found[1][1][unused], found[1][2][unused])  # pretrained, not decayed


def test_shared_words_are_left_alone() -> None:
    model = AutoModelForSequenceClassification.from_config(tiny_config())
    model.output = nn.Linear(16, 25)
    model.output.weight = model.get_input_embeddings().weight
    with train_used_words(model, torch.arange(3)):
        assert isinstance(model.get_input_embeddings(), nn.Embedding)
