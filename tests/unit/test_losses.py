import math

import pytest
import torch
from torch import Tensor

from metakd.objectives import losses

torch.manual_seed(0)
B, L, D, H, C = 3, 5, 4, 2, 3
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def scores(heads: int = H) -> Tensor:
    """Random raw scores in which padding keys are not attended."""
    found = torch.randn(B, heads, L, L)
    return found.masked_fill(~MASK.bool()[:, None, None, :], torch.finfo(found.dtype).min)


def test_hand_worked_logit_losses() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    assert losses.soft_cross_entropy(student, teacher, 1.0).tolist() == pytest.approx([math.log(2)])
    wanted = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert losses.kl_divergence(student, teacher, 1.0).tolist() == pytest.approx([wanted])
    assert losses.logits_mse(student, teacher).tolist() == pytest.approx([math.log(3.0) ** 2 / 2])
    assert losses.cross_entropy(teacher, torch.tensor([1])).tolist() == pytest.approx([math.log(4)])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_losses_against_naive_loops(temperature: float) -> None:
    student, teacher = torch.randn(B, C), torch.randn(B, C)
    for row in range(B):
        p = softmax([v / temperature for v in teacher[row].tolist()])
        q = softmax([v / temperature for v in student[row].tolist()])
        soft = -sum(a * math.log(b) for a, b in zip(p, q, strict=True)) * temperature**2
        kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) * temperature**2
        assert losses.soft_cross_entropy(student, teacher, temperature)[row].item() == pytest.approx(soft, rel=1e-4)
        assert losses.kl_divergence(student, teacher, temperature)[row].item() == pytest.approx(kl, rel=1e-3, abs=1e-6)


def test_soft_cross_entropy_and_kl_have_one_gradient() -> None:
    student, teacher = torch.randn(B, C, requires_grad=True), torch.randn(B, C)
    one = torch.autograd.grad(losses.soft_cross_entropy(student, teacher, 2.0).sum(), student)[0]
    other = torch.autograd.grad(losses.kl_divergence(student, teacher, 2.0).sum(), student)[0]
    torch.testing.assert_close(one, other)


def test_hidden_mse_against_a_naive_loop() -> None:
    student, teacher = torch.randn(B, L, D), torch.randn(B, L, D)
    found = losses.hidden_mse(student, teacher, MASK)
    for row in range(B):
        tokens = [t for t in range(L) if MASK[row, t]]
        total = sum((student[row, t, d] - teacher[row, t, d]).item() ** 2 for t in tokens for d in range(D))
        assert found[row].item() == pytest.approx(total / (len(tokens) * D), rel=1e-5)


def test_attention_losses_against_naive_loops() -> None:
    student, teacher = scores(), scores()
    on_scores = losses.attention_score_mse(student, teacher, MASK)
    on_probabilities = losses.attention_probability_mse(student, teacher, MASK)
    for row in range(B):
        tokens = [t for t in range(L) if MASK[row, t]]
        total_s = total_p = 0.0
        for h in range(H):
            for q in tokens:
                s, t = student[row, h, q, tokens].tolist(), teacher[row, h, q, tokens].tolist()
                total_s += sum((a - b) ** 2 for a, b in zip(s, t, strict=True))
                total_p += sum((a - b) ** 2 for a, b in zip(softmax(s), softmax(t), strict=True))
        count = H * len(tokens) ** 2
        assert on_scores[row].item() == pytest.approx(total_s / count, rel=1e-4)
        assert on_probabilities[row].item() == pytest.approx(total_p / count, rel=1e-4)


def test_different_head_counts_are_averaged() -> None:
    student, teacher = scores(2), scores(4)
    seen = MASK.bool()[:, None, None, :].expand(B, 1, L, L)
    means = [s.mean(1, keepdim=True).where(seen, torch.finfo(s.dtype).min) for s in (student, teacher)]
    torch.testing.assert_close(
        losses.attention_score_mse(student, teacher, MASK), losses.attention_score_mse(*means, MASK)
    )
    assert losses.attention_probability_mse(student, teacher, MASK).isfinite().all()


def pad(values: Tensor, dims: tuple[int, ...], fill: float) -> Tensor:
    for dim in dims:
        shape = list(values.shape)
        shape[dim] = 3
        values = torch.cat([values, torch.full(shape, fill, dtype=values.dtype)], dim)
    return values


def test_more_padding_changes_nothing() -> None:
    longer = pad(MASK, (1,), 0)
    student, teacher = torch.randn(B, L, D), torch.randn(B, L, D)
    torch.testing.assert_close(
        losses.hidden_mse(student, teacher, MASK),
        losses.hidden_mse(pad(student, (1,), 9.0), pad(teacher, (1,), -9.0), longer),
    )
    s, t = scores(), scores()
    lowest = torch.finfo(s.dtype).min
    longer_s, longer_t = (pad(pad(v, (2,), 5.0), (3,), lowest) for v in (s, t))
    for loss in (losses.attention_score_mse, losses.attention_probability_mse):
        torch.testing.assert_close(loss(s, t, MASK), loss(longer_s, longer_t, longer))


def test_gradients_stay_finite_where_nothing_is_attended() -> None:
    student = scores().requires_grad_()
    for loss in (losses.attention_score_mse, losses.attention_probability_mse):
        gradient = torch.autograd.grad(loss(student, scores(4), MASK).sum(), student)[0]
        assert gradient.isfinite().all()
        assert (gradient[~MASK.bool()[:, None, None, :].expand_as(gradient)] == 0).all()
