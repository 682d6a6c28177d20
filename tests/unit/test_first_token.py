"""The last layer of the first token alone gives the whole model's logits and gradients."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from metakd.models import attention
from metakd.models.first_token import FAMILIES, first_token_only
from tests.conftest import tiny_config

IDS = torch.tensor([[2, 7, 9, 12, 3], [2, 8, 3, 0, 0]])
MASK = (IDS != 0).long()


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("family", [*FAMILIES, "distilbert", "modernbert"])
def test_logits_and_gradients_are_those_of_the_whole_model(family: str, enabled: bool, padded: bool) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(tiny_config(family))
    if enabled:
        attention.enable(model)
    inputs = {"input_ids": IDS if padded else IDS[:1], "attention_mask": MASK if padded else MASK[:1]}
    seen: list[tuple[int, ...]] = []
    last = [m for n, m in model.named_modules() if n.endswith(("output.LayerNorm", "output_layer_norm", "mlp_norm"))][
        -1
    ]
    last.register_forward_hook(lambda *found: seen.append(tuple(found[2].shape)))

    def run() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model.zero_grad()
        logits = model(**inputs).logits
        logits.square().sum().backward()
        return logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    whole, wanted = run()
    with first_token_only(model):
        logits, found = run()
    torch.testing.assert_close(logits, whole)
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-5, msg=name)
    tokens = [shape[1] for shape in seen]
    assert tokens == [5, 1 if family in FAMILIES else 5]  # less was computed, where it can be
    run()
    assert seen[-1][1] == 5  # and it is as it was afterwards
