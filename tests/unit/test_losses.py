import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from metakd.objectives import losses

B, C = 3, 4
Row = list[float]


def random(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


STUDENT, TEACHER = random(B, C, seed=1), random(B, C, seed=2)


def softmax(values: Row, temperature: float = 1.0) -> Row:
    total = sum(math.exp(v / temperature) for v in values)
    return [math.exp(v / temperature) / total for v in values]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def kl(p: Row, q: Row) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def naive_soft_cross_entropy(student: Row, teacher: Row, temperature: float) -> float:
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    return -sum(a * math.log(b) for a, b in zip(p, q, strict=True)) * temperature**2


def naive_kl(student: Row, teacher: Row, temperature: float) -> float:
    return kl(softmax(teacher, temperature), softmax(student, temperature)) * temperature**2


def naive_reverse_kl(student: Row, teacher: Row, temperature: float) -> float:
    return kl(softmax(student, temperature), softmax(teacher, temperature)) * temperature**2


def naive_jensen_shannon(student: Row, teacher: Row, temperature: float) -> float:
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (kl(p, m) + kl(q, m)) / 2 * temperature**2


def naive_soft_binary(student: Row, teacher: Row, temperature: float) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        p, q = sigmoid(t / temperature), sigmoid(s / temperature)
        total -= p * math.log(q) + (1 - p) * math.log(1 - q)
    return total / len(student) * temperature**2


def naive_binary_kl(student: Row, teacher: Row, temperature: float) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        p, q = sigmoid(t / temperature), sigmoid(s / temperature)
        total += kl([p, 1 - p], [q, 1 - q])
    return total / len(student) * temperature**2


SOFT = {
    losses.soft_cross_entropy: naive_soft_cross_entropy,
    losses.kl_divergence: naive_kl,
    losses.reverse_kl: naive_reverse_kl,
    losses.jensen_shannon: naive_jensen_shannon,
    losses.soft_binary_cross_entropy: naive_soft_binary,
    losses.binary_kl: naive_binary_kl,
}
soft_losses = pytest.mark.parametrize("loss", SOFT, ids=lambda loss: loss.__name__)
LN2, LN3 = math.log(2), math.log(3)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(
    ("loss", "student", "expected"),
    # The teacher's logits are (ln 3, 0): softmax (3/4, 1/4), sigmoids (3/4, 1/2). The student's (0, 0): halves.
    [
        (losses.soft_cross_entropy, (0, 0), LN2),
        (losses.kl_divergence, (0, 0), 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)),
        (losses.reverse_kl, (0, 0), 1 / 2 * math.log(2 / 3) + 1 / 2 * math.log(2)),
        # The mixture is (5/8, 3/8).
        (
            losses.jensen_shannon,
            (0, 0),
            (3 / 4 * math.log(6 / 5) + 1 / 4 * math.log(2 / 3) + 1 / 2 * math.log(4 / 5) + 1 / 2 * math.log(4 / 3)) / 2,
        ),
        # Sigmoids (1/2, 3/4) against targets (3/4, 1/2): ln 2, and half of -ln 3/4 - ln 1/4 = 4 ln 2 - ln 3.
        (losses.soft_binary_cross_entropy, (0, LN3), (LN2 + (4 * LN2 - LN3) / 2) / 2),
        # Sigmoids (3/4, 1/2) against halves: the second class agrees.
        (losses.binary_kl, (0, 0), (3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)) / 2),
    ],
)
def test_hand_worked_soft_losses(
    loss: Callable[..., Tensor], student: Row, expected: float, temperature: float
) -> None:
    # Logits T times as large divided by T are these again; T^2 remains.
    values = loss(temperature * torch.tensor([student]), temperature * torch.tensor([[LN3, 0.0]]), temperature)
    assert values.tolist() == pytest.approx([expected * temperature**2])


@pytest.mark.parametrize(
    ("loss", "one", "other", "expected"),
    [
        (losses.cross_entropy, [LN3, 0.0], 1, 2 * LN2),  # softmax (3/4, 1/4): -ln 1/4
        (losses.binary_cross_entropy, [0.0, LN3], [1, 0], 3 / 2 * LN2),  # half of -ln 1/2 - ln(1 - 3/4)
        (losses.squared_error, [0.5], 2.0, 2.25),  # 1.5^2
        (losses.logits_mse, [1.0, 2.0], [0.0, 4.0], 2.5),  # (1 + 4) / 2
        (losses.logits_cosine, [1.0, 0.0], [3.0, 4.0], 0.4),  # 1 - 3 / 5
        (losses.hard_label, [1.0, 2.0], [0.0, 4.0], math.log(1 + math.exp(-1))),  # of class 1
        (losses.hard_binary_labels, [0.0, 2.0], [-1.0, 3.0], (math.log(2) + math.log(1 + math.exp(-2))) / 2),
    ],
)
def test_hand_worked_losses(loss: Callable[..., Tensor], one: Row, other: Row | float, expected: float) -> None:
    assert loss(torch.tensor([one]), torch.tensor([other])).tolist() == pytest.approx([expected])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@soft_losses
def test_soft_losses_against_naive_loops(loss: Callable[..., Tensor], temperature: float) -> None:
    pairs = zip(STUDENT.tolist(), TEACHER.tolist(), strict=True)
    expected = [SOFT[loss](student, teacher, temperature) for student, teacher in pairs]
    assert loss(STUDENT, TEACHER, temperature).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_other_losses_against_naive_loops() -> None:
    label, several, number = torch.tensor([3, 0, 1]), (TEACHER > 0).long(), random(B)
    expected: dict[str, Row] = {"ce": [], "bce": [], "mse": [], "cosine": []}
    for row, (s, t) in enumerate(zip(STUDENT.tolist(), TEACHER.tolist(), strict=True)):
        expected["ce"].append(-math.log(softmax(s)[label[row]]))
        expected["bce"].append(-sum(math.log(sigmoid(a if b > 0 else -a)) for a, b in zip(s, t, strict=True)) / C)
        expected["mse"].append(sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / C)
        expected["cosine"].append(1 - sum(a * b for a, b in zip(s, t, strict=True)) / math.hypot(*s) / math.hypot(*t))
    assert losses.cross_entropy(STUDENT, label).tolist() == pytest.approx(expected["ce"], rel=1e-5)
    assert losses.binary_cross_entropy(STUDENT, several).tolist() == pytest.approx(expected["bce"], rel=1e-5)
    assert losses.logits_mse(STUDENT, TEACHER).tolist() == pytest.approx(expected["mse"], rel=1e-5)
    assert losses.logits_cosine(STUDENT, TEACHER).tolist() == pytest.approx(expected["cosine"], rel=1e-5)
    squares = [(s[0] - n) ** 2 for s, n in zip(STUDENT.tolist(), number.tolist(), strict=True)]
    assert losses.squared_error(STUDENT[:, :1], number).tolist() == pytest.approx(squares, rel=1e-5)


@pytest.mark.parametrize("loss", [losses.kl_divergence, losses.reverse_kl, losses.jensen_shannon])
def test_divergences_vanish_where_both_agree_up_to_a_constant(loss: Callable[..., Tensor]) -> None:
    assert loss(STUDENT, STUDENT + 3, 2.0).tolist() == pytest.approx([0] * B, abs=1e-5)


def test_differences_vanish_where_both_agree() -> None:
    assert losses.binary_kl(STUDENT, STUDENT, 2.0).tolist() == [0] * B
    assert losses.logits_mse(STUDENT, STUDENT).tolist() == [0] * B
    assert losses.logits_cosine(STUDENT, 2 * STUDENT).tolist() == pytest.approx([0] * B, abs=1e-6)
    assert losses.squared_error(STUDENT[:, :1], STUDENT[:, 0]).tolist() == [0] * B


def gradient(loss: Callable[..., Tensor], student: Tensor, *others: Tensor | float) -> Tensor:
    student = student.clone().requires_grad_()
    return torch.autograd.grad(loss(student, *others).sum(), student)[0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (losses.soft_cross_entropy, losses.kl_divergence),
        (losses.soft_binary_cross_entropy, losses.binary_kl),
    ],
)
def test_cross_entropy_and_kl_have_one_gradient(
    one: Callable[..., Tensor], other: Callable[..., Tensor], temperature: float
) -> None:
    of_one = gradient(one, STUDENT, TEACHER, temperature)
    torch.testing.assert_close(of_one, gradient(other, STUDENT, TEACHER, temperature))
    assert of_one.abs().max() > 0.01


def test_soft_binary_cross_entropy_is_smallest_at_the_teacher() -> None:
    assert gradient(losses.soft_binary_cross_entropy, TEACHER, TEACHER, 2.0).abs().max() < 1e-6
    assert gradient(losses.soft_binary_cross_entropy, STUDENT, TEACHER, 2.0).abs().max() > 0.01


@soft_losses
def test_confident_wrong_logits_give_a_large_finite_loss(loss: Callable[..., Tensor]) -> None:
    student, teacher = torch.tensor([[300.0, -300.0]]), torch.tensor([[-300.0, 300.0]])
    # Jensen-Shannon is at most ln 2, the binary losses are 300 for each class, the others 600 for the pair.
    binary = dict.fromkeys((losses.soft_binary_cross_entropy, losses.binary_kl), 300)
    expected = {losses.jensen_shannon: LN2, **binary}.get(loss, 600)
    assert loss(student, teacher, 1.0).tolist() == pytest.approx([expected])
    assert gradient(loss, student, teacher, 1.0).isfinite().all()


@soft_losses
def test_bf16_logits_are_compared_in_fp32(loss: Callable[..., Tensor]) -> None:
    student, teacher = STUDENT.bfloat16(), TEACHER.bfloat16()
    torch.testing.assert_close(loss(student, teacher, 2.0), loss(student.float(), teacher.float(), 2.0))
