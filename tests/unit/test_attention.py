import pytest
import torch
from transformers import AutoModelForSequenceClassification

from metakd.data.encoding import Batch
from metakd.errors import InputError
from metakd.models import attention
from metakd.models.views import Need, view
from tests.conftest import FAMILIES, tiny_config


def batch(family: str) -> Batch:
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[1] * 14, [1] * 6 + [0] * 8])
    ids = torch.randint(4, 25, (2, 14), generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask, "content_mask": mask, "domain": torch.zeros(2, dtype=torch.long)}


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_agree_with_the_eager_path_of_the_library(family: str) -> None:
    torch.manual_seed(0)
    ours = AutoModelForSequenceClassification.from_config(tiny_config(family)).eval()
    eager = AutoModelForSequenceClassification.from_config(tiny_config(family), attn_implementation="eager").eval()
    eager.load_state_dict(ours.state_dict())
    inputs = batch(family)
    fused = view(ours, inputs, Need()).logits
    attention.enable(ours)
    found = view(ours, inputs, Need(frozenset({0, 4}), frozenset({1, 3}), frozenset({2, 3})))
    output = eager(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], output_attentions=True,
        output_hidden_states=True,
    )  # fmt: skip
    assert set(found.attention) == {1, 3} and set(found.probabilities) == {2, 3} and set(found.hidden) == {0, 4}
    tokens = inputs["attention_mask"].bool()
    for layer, scores in found.attention.items():
        wanted, seen = output.attentions[layer - 1], scores.softmax(-1)
        for row in range(2):
            keep = tokens[row]
            torch.testing.assert_close(seen[row][:, keep][:, :, keep], wanted[row][:, keep][:, :, keep])
            assert not attention.attended(scores)[row][:, keep][:, :, ~keep].any()
    for layer, probabilities in found.probabilities.items():
        for row in range(2):
            keep = tokens[row]
            seen = probabilities[row][:, keep]
            torch.testing.assert_close(seen[:, :, keep], output.attentions[layer - 1][row][:, keep][:, :, keep])
            assert not seen[:, :, ~keep].any()
    torch.testing.assert_close(found.logits, fused, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logits, output.logits, rtol=1e-4, atol=1e-5)
    for layer in (0, 4):
        torch.testing.assert_close(
            found.hidden[layer][tokens], output.hidden_states[layer][tokens], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_collected_that_nobody_asked_for(family: str) -> None:
    model = AutoModelForSequenceClassification.from_config(tiny_config(family)).eval()
    attention.enable(model)
    found = view(model, batch(family), Need(projected=frozenset({2})))
    assert (found.hidden, found.attention, found.probabilities, found.transferable) == ({}, {}, {}, None)
    assert set(found.projected) == {2}


@pytest.mark.parametrize("length", [attention.SHORT - 1, attention.SHORT])
def test_short_and_long_rows_in_bf16_against_fp32(length: int) -> None:
    torch.manual_seed(0)
    layer = plain_layer()
    inputs = [torch.randn(2, 2, length, 8).bfloat16().requires_grad_() for _ in range(3)]
    exact = [values.detach().float().requires_grad_() for values in inputs]
    with attention.capture(frozenset({1}), frozenset({1}), frozenset()) as seen:
        found, _ = attention.attention_with_scores(layer, *inputs, None)
    wanted = torch.nn.functional.scaled_dot_product_attention(*exact).transpose(1, 2)
    assert found.dtype == seen.scores[1].dtype == seen.probabilities[1].dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=0.02, atol=0.02)
    for output in (found, wanted):
        output.float().square().sum().backward()
    for own, reference in zip(inputs, exact, strict=True):
        torch.testing.assert_close(own.grad.float(), reference.grad, rtol=0.05, atol=0.05)


def plain_layer(causal: bool = False) -> torch.nn.Module:
    layer = torch.nn.Identity()
    layer.is_causal = causal
    return layer


def test_probabilities_are_those_before_dropout() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 2, 5, 8) for _ in range(3)]
    with attention.capture(frozenset({1}), frozenset({1}), frozenset()) as seen:
        attention.attention_with_scores(plain_layer(), *inputs, None, dropout=0.5)
    torch.testing.assert_close(seen.probabilities[1], seen.scores[1].softmax(-1))


@pytest.mark.parametrize("kind", ["causal", "causal by option", "grouped heads", "added mask", "position bias"])
def test_attention_that_is_more_than_plain_is_not_read(kind: str) -> None:
    query, key, value = (torch.randn(2, 2, 5, 8) for _ in range(3))
    if kind == "grouped heads":
        key, value = key[:, :1], value[:, :1]
    mask = torch.zeros(2, 1, 5, 5) if kind == "added mask" else None
    options = {"causal by option": {"is_causal": True}, "position bias": {"position_bias": query}}.get(kind, {})
    with (
        attention.capture(frozenset({1}), frozenset(), frozenset()),
        pytest.raises(InputError, match="plain attention"),
    ):
        attention.attention_with_scores(plain_layer(kind == "causal"), query, key, value, mask, **options)


def test_attention_with_dropout_is_the_fused_one_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU dropout makes the attention ours; over many masks its mean is what there is without dropout."""
    torch.manual_seed(0)
    layer = plain_layer()
    query, key, value = (torch.randn(2, 2, 5, 8) for _ in range(3))
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[1, :, :, 3:] = False
    for mask_or_none in (mask, None):
        whole, _ = attention.attention_with_scores(layer, query, key, value, mask_or_none)
        with monkeypatch.context() as patched:
            patched.setattr(attention, "sdpa_attention_forward", None)  # is not called
            drawn = torch.stack(
                [
                    attention.attention_with_scores(layer, query, key, value, mask_or_none, dropout=0.2)[0]
                    for _ in range(4000)
                ]
            )
        assert drawn.std(0).min() > 0
        torch.testing.assert_close(drawn.mean(0), whole, rtol=0, atol=0.05)
