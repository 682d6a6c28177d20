"""The CPU's fast form of a model computes what stock PyTorch computes; dropout has the same distribution."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForSequenceClassification, DebertaV2Config, PreTrainedModel

from metakd.cpu import attention as cpu_attention
from metakd.cpu.attention import FAST, SHORT, fast_attention
from metakd.cpu.dropout import drop, replace_dropout
from metakd.cpu.first_token import FAMILIES as SHORTENED
from metakd.cpu.tuning import tune, tuned
from metakd.cpu.used_words import UsedWords, train_used_words
from metakd.data.encoding import Batch
from metakd.models.attention import READING, AttentionCapture, capturing, enable_reading
from metakd.models.views import LOGITS_ONLY, ViewRequest, compute_views
from metakd.training.loop import parameter_groups
from tests.conftest import FAMILIES, tiny_config

IDS = torch.tensor([[2, 7, 9, 12, 3], [2, 8, 3, 0, 0]])
ROWS: Any = SimpleNamespace(used_ids=lambda: IDS.unique().numpy())
PADDED: Batch = {"input_ids": IDS, "attention_mask": (IDS != 0).long()}
FULL: Batch = {name: values[:1] for name, values in PADDED.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_zeroes_a_fraction_p_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.ones(1001, 301, dtype=dtype, requires_grad=True)
    dropped = drop(values, p)
    scale = torch.tensor(1 / (1 - p), dtype=dtype)
    assert set(dropped.detach().unique().tolist()) == {0.0, scale.item()}
    zero = (dropped == 0).double()
    assert zero.mean().item() == pytest.approx(p, abs=5 * (p * (1 - p) / values.numel()) ** 0.5)  # 5 standard errors
    # Zeros are independent: rows have a binomial number of them, neighbours are both zero with probability p^2.
    assert zero.mean(1).std().item() == pytest.approx((p * (1 - p) / 301) ** 0.5, rel=0.15)
    both = (zero.flatten()[1:] * zero.flatten()[:-1]).mean().item()
    assert both == pytest.approx(p * p, abs=5 * (p / values.numel()) ** 0.5)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())  # the gradient has the same mask


def test_dropout_depends_on_the_seed() -> None:
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(drop(torch.ones(33, 7), 0.3))
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("call", [nn.Dropout(0.5), lambda values: nn.functional.dropout(values, 0.5)])
def test_dropout_is_replaced_and_put_back(call: Callable[[Tensor], Tensor]) -> None:
    original, values = nn.functional.dropout, torch.ones(40, 2)

    def masked() -> Tensor:
        torch.manual_seed(1)
        return call(values)

    stock = masked()
    undo = replace_dropout()
    assert torch.equal(nn.Dropout(0.5).eval()(values), values)
    fast = masked()
    undo()
    torch.manual_seed(1)
    assert torch.equal(fast, drop(values, 0.5)) and not torch.equal(fast, stock)
    assert nn.functional.dropout is original and torch.equal(masked(), stock)


def plain_layer() -> nn.Module:
    layer = nn.Identity()
    layer.is_causal = False
    layer.metakd_layer = 1
    return layer


@pytest.mark.parametrize("length", [SHORT - 1, SHORT])
def test_short_and_long_rows_in_bf16_agree_with_fp32(length: int) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 2, length, 8).bfloat16().requires_grad_() for _ in range(3)]
    exact = [values.detach().float().requires_grad_() for values in inputs]
    with capturing(AttentionCapture(frozenset({1}), frozenset({1}))) as capture:
        output, _ = fast_attention(plain_layer(), *inputs, None)
    expected = scaled_dot_product_attention(*exact).transpose(1, 2)
    assert output.dtype == capture.scores[1].dtype == capture.probabilities[1].dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=0.02, atol=0.02)
    output.float().square().sum().backward()
    expected.square().sum().backward()
    for values, reference in zip(inputs, exact, strict=True):
        torch.testing.assert_close(values.grad.float(), reference.grad, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("masked", [True, False])
def test_attention_with_dropout_is_the_fused_one_on_average(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 2, 5, 8) for _ in range(3))
    mask = None
    if masked:
        mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
        mask[1, :, :, 3:] = False
    expected = scaled_dot_product_attention(query, key, value, mask).transpose(1, 2)
    monkeypatch.setattr(cpu_attention, "sdpa_attention_forward", None)  # must not be called
    outputs = torch.stack([fast_attention(plain_layer(), query, key, value, mask, dropout=0.2)[0] for _ in range(4000)])
    assert outputs.std(0).min() > 0
    torch.testing.assert_close(outputs.mean(0), expected, rtol=0, atol=0.05)


def classifier(family: str, **options: object) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(tiny_config(family), **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tuned_model_shows_the_same_views(family: str) -> None:
    request = ViewRequest(frozenset({0, 4}), frozenset({1, 4}), frozenset({2, 4}), frozenset({3, 4}))
    model = classifier(family).eval()
    enable_reading(model)
    expected = compute_views(model, PADDED, request)
    undo = tune(model)
    assert model.config._attn_implementation == FAST
    views = compute_views(model, PADDED, request)
    undo()
    torch.testing.assert_close(views.logits, expected.logits)
    for name in ("hidden", "scores", "probabilities", "projections"):
        torch.testing.assert_close(getattr(views, name), getattr(expected, name), msg=name)


@pytest.mark.parametrize("batch", [PADDED, FULL], ids=["padded", "full"])
@pytest.mark.parametrize("family", [*SHORTENED, "distilbert", "modernbert"])
def test_the_last_layer_of_the_first_token_gives_the_same_logits_and_gradients(family: str, batch: Batch) -> None:
    model = classifier(family)
    norms = [m for name, m in model.named_modules() if name.endswith(("output.LayerNorm", "_layer_norm", "mlp_norm"))]
    tokens: list[int] = []
    norms[-1].register_forward_hook(lambda module, inputs, output: tokens.append(output.shape[1]))

    def logits_and_gradients(request: ViewRequest = LOGITS_ONLY) -> dict[str, Tensor]:
        model.zero_grad()
        logits = compute_views(model, batch, request).logits
        logits.square().sum().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return {"logits": logits.detach(), **gradients}

    expected = logits_and_gradients()
    undo = tune(model)
    shortened = logits_and_gradients()
    whole = logits_and_gradients(ViewRequest(hidden=frozenset({4})))  # the other tokens' states are needed
    undo()
    logits_and_gradients()
    assert tokens == [5, 1 if family in SHORTENED else 5, 5, 5]
    for actual in (shortened, whole):
        assert actual.keys() == expected.keys()
        for name, values in expected.items():
            torch.testing.assert_close(actual[name], values, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(("before", "inside"), [("sdpa", FAST), (READING, FAST), ("eager", "eager"), (FAST, FAST)])
def test_a_model_is_stock_again_after_training(before: str, inside: str) -> None:
    model = AutoModelForSequenceClassification.from_config(tiny_config(dropout=0.1), attn_implementation=before)
    modules, cpu, dropout = dict(model.named_modules()), torch.device("cpu"), nn.functional.dropout
    with tuned(model, cpu, "auto", ROWS):
        assert model.config._attn_implementation == inside
        assert nn.functional.dropout is not dropout
    assert nn.functional.dropout is dropout
    assert model.config._attn_implementation == before
    assert dict(model.named_modules()) == modules
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize(("device", "setting"), [("cpu", "off"), ("cuda", "auto")])
def test_a_model_stays_stock_where_tuning_is_off_or_the_device_is_no_cpu(device: str, setting: str) -> None:
    model = classifier("bert")
    modules = dict(model.named_modules())
    with tuned(model, torch.device(device), setting, ROWS):
        assert dict(model.named_modules()) == modules and model.config._attn_implementation == "sdpa"


def test_a_family_without_the_attention_interface_keeps_its_attention() -> None:
    config = DebertaV2Config(
        vocab_size=25, num_hidden_layers=2, hidden_size=16, num_attention_heads=2, intermediate_size=32,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_config(config)
    expected = compute_views(model, PADDED).logits
    with tuned(model, torch.device("cpu"), "auto", ROWS):
        torch.testing.assert_close(compute_views(model, PADDED).logits, expected)


def five_steps(model: nn.Module) -> list[float]:
    """Losses of AdamW on a batch that lacks most words."""
    optimizer, losses = torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-2), []
    for _ in range(5):
        loss = model(**PADDED, labels=torch.tensor([0, 1])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("family", FAMILIES)
def test_training_the_used_words_trains_like_training_all_words(family: str) -> None:
    used, all_words = IDS.unique(), torch.arange(25).reshape(1, 25)[:, :20]
    losses, words = [], []
    for only_used in (False, True):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(tiny_config(family)).train()
        pretrained = model.get_input_embeddings().weight.detach().clone()
        undo = train_used_words(model, used) if only_used else lambda: None
        assert isinstance(model.get_input_embeddings(), UsedWords) == only_used
        losses.append(five_steps(model))
        inside = model.eval()(all_words).logits  # words that no training row has are known outside training
        undo()
        torch.testing.assert_close(model(all_words).logits, inside)
        words.append(model.get_input_embeddings().weight.detach())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    unused = torch.ones(25, dtype=torch.bool)
    unused[used] = False
    torch.testing.assert_close(words[1][~unused], words[0][~unused], rtol=1e-4, atol=1e-5)
    assert torch.equal(words[1][unused], pretrained[unused])  # not decayed


def test_words_that_another_layer_shares_are_all_trained() -> None:
    model = classifier("bert")
    model.output = nn.Linear(16, 25)
    model.output.weight = model.get_input_embeddings().weight
    undo = train_used_words(model, torch.arange(3))
    assert isinstance(model.get_input_embeddings(), nn.Embedding)
    undo()
