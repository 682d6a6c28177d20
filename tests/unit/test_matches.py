import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from metakd.objectives import matches

B, L, D, H = 3, 5, 4, 2
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]])
LOWEST = torch.finfo(torch.float32).min
Vectors = list[list[float]]
LN2, LN3 = math.log(2), math.log(3)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scores(heads: int = H, seed: int = 0) -> Tensor:
    """Random raw scores in which padding keys are not attended."""
    return random(B, heads, L, L, seed=seed).masked_fill(~MASK.bool()[:, None, None, :], LOWEST)


def queries_and_keys(heads: int, width: int, seed: int) -> Tensor:
    """Random queries and keys [B, 2, H, L, d]."""
    return random(B, 2, heads, L, width, seed=seed)


def probability_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """`attention_probability_mse` as a function of scores, like the other attention losses."""
    return matches.attention_probability_mse(student.softmax(-1), teacher.softmax(-1), mask)


def naive_softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def squares(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def variance(a: list[float]) -> float:
    return sum((x - sum(a) / len(a)) ** 2 for x in a) / len(a)


def cross_entropy(p: list[float], q: list[float]) -> float:
    return -sum(x * math.log(y) for x, y in zip(p, q, strict=True))


def kl(p: list[float], q: list[float]) -> float:
    return cross_entropy(p, q) - cross_entropy(p, p)


# Each of these sees one row's tokens without padding: student and teacher are lists of vectors.


def naive_hidden_mse(student: Vectors, teacher: Vectors) -> float:
    return sum(squares(s, t) for s, t in zip(student, teacher, strict=True)) / len(student) / len(student[0])


def naive_hidden_cosine(student: Vectors, teacher: Vectors) -> float:
    cosines = [dot(s, t) / math.hypot(*s) / math.hypot(*t) for s, t in zip(student, teacher, strict=True)]
    return sum(1 - c for c in cosines) / len(cosines)


def naive_gram_mse(student: Vectors, teacher: Vectors) -> float:
    total, tokens = 0.0, range(len(student))
    for i in tokens:
        for j in tokens:
            ours, theirs = dot(student[i], student[j]) / len(student[0]), dot(teacher[i], teacher[j]) / len(teacher[0])
            total += (ours - theirs) ** 2
    return total / len(tokens) ** 2


def naive_vector_mse(student: list[float], teacher: list[float]) -> float:
    return squares(student, teacher) / len(student)


def naive_normalised_vector_mse(student: list[float], teacher: list[float]) -> float:
    return squares(*([v / math.hypot(*vector) for v in vector] for vector in (student, teacher)))


STATES = {
    matches.hidden_mse: naive_hidden_mse,
    matches.hidden_cosine: naive_hidden_cosine,
    matches.gram_mse: naive_gram_mse,
}
VECTORS = {matches.vector_mse: naive_vector_mse, matches.normalised_vector_mse: naive_normalised_vector_mse}
# One query of one head: raw scores of student and teacher over the keys -> the number that a row averages.
ATTENTION: dict[Callable[..., Tensor], Callable[[list[float], list[float]], float]] = {
    matches.attention_score_mse: lambda s, t: squares(s, t) / len(s),
    matches.centred_score_mse: lambda s, t: variance([a - b for a, b in zip(s, t, strict=True)]),
    probability_mse: lambda s, t: squares(naive_softmax(s), naive_softmax(t)) / len(s),
    matches.attention_cross_entropy: lambda s, t: cross_entropy(naive_softmax(t), naive_softmax(s)),
    matches.attention_kl: lambda s, t: kl(naive_softmax(t), naive_softmax(s)),
}
DISTRIBUTIONS = [matches.attention_cross_entropy, matches.attention_kl]


def name(value: Any) -> str | None:
    return getattr(value, "__name__", None)


vector_losses = pytest.mark.parametrize("loss", VECTORS, ids=name)
state_losses = pytest.mark.parametrize("loss", STATES, ids=name)
attention_losses = pytest.mark.parametrize("loss", ATTENTION, ids=name)
distribution_losses = pytest.mark.parametrize("loss", DISTRIBUTIONS, ids=name)
UNEQUAL = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)  # KL((3/4, 1/4) || halves)


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "expected"),
    [
        (matches.hidden_mse, [[1, 2], [0, 3]], [[0, 0], [0, 0]], 3.5),  # (1 + 4 + 0 + 9) / 4
        (matches.hidden_cosine, [[1, 0], [0, 1]], [[3, 4], [6, 8]], 0.3),  # (1 - 3/5 + 1 - 4/5) / 2
        # Grams (1, 2; 2, 4) and (4, 0; 0, 4) / 2, differences -1, 2, 2, 2: (1 + 4 + 4 + 4) / 4.
        (matches.gram_mse, [[1], [2]], [[2, 0], [0, 2]], 3.25),
        (matches.vector_mse, [1, 2], [0, 4], 2.5),  # (1 + 4) / 2
        (matches.normalised_vector_mse, [2, 0], [3, 4], 0.8),  # (1 - 3/5)^2 + (4/5)^2
        (matches.attention_score_mse, [[[1, 2], [3, 4]]], [[[0, 0], [0, 0]]], 7.5),  # (1 + 4 + 9 + 16) / 4
        (matches.centred_score_mse, [[[1, 2], [3, 7]]], [[[0, 0], [0, 0]]], 2.125),  # (1/4 + 1/4 + 4 + 4) / 4
        # (3/4, 1/4) against halves, and halves against halves: (1/16 + 1/16 + 0 + 0) / 4.
        (probability_mse, [[[LN3, 0], [0, 0]]], [[[0, 0], [5, 5]]], 1 / 32),
        # The student's halves cost ln 2 whatever the teacher; its (3/4, 1/4) costs halves -ln(3/16) / 2.
        (matches.attention_cross_entropy, [[[0, 0], [LN3, 0]]], [[[LN3, 0], [0, 0]]], LN2 / 2 + math.log(16 / 3) / 4),
        (matches.attention_kl, [[[0, 0], [7, 7]]], [[[LN3, 0], [0, 0]]], UNEQUAL / 2),
    ],
)
def test_hand_worked_numbers(loss: Callable[..., Tensor], student: Any, teacher: Any, expected: float) -> None:
    inputs = [torch.tensor([values]).float() for values in (student, teacher)]
    assert loss(*inputs, torch.ones(1, 2, dtype=torch.long)).tolist() == pytest.approx([expected])


def test_hand_worked_relations() -> None:
    # Width 4: the teacher's first query gives (2 ln 3, 0) / sqrt(4), its second (0, 0); the student's both (0, 0).
    teacher = torch.zeros(1, 2, 2, 2, 2)
    teacher[0, 0, 1, 0, 0], teacher[0, 1, 1, 0, 0] = LN3, 2
    student, mask = torch.zeros(1, 2, 1, 2, 3), torch.ones(1, 2, dtype=torch.long)
    assert matches.relation_kl(student, teacher, mask, 1).tolist() == pytest.approx([UNEQUAL / 2])
    # Values are related to themselves. Width 2: (1, 0) gives (1, 0) / sqrt(2), (0, 1) the same turned round.
    teacher, student = torch.eye(2).view(1, 1, 1, 2, 2), torch.zeros(1, 1, 1, 2, 2)
    p = 1 / (1 + math.exp(-(2**-0.5)))
    expected = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    assert matches.relation_kl(student, teacher, mask, 1).tolist() == pytest.approx([expected])


@state_losses
def test_state_losses_against_naive_loops(loss: Callable[..., Tensor]) -> None:
    student, teacher = random(B, L, D, seed=1), random(B, L, 7 if loss is matches.gram_mse else D, seed=2)
    rows = [[states[row, MASK[row].bool()].tolist() for states in (student, teacher)] for row in range(B)]
    expected = [STATES[loss](*both) for both in rows]
    assert loss(student, teacher, MASK).tolist() == pytest.approx(expected, rel=1e-5)


@vector_losses
def test_vector_losses_against_naive_loops(loss: Callable[..., Tensor]) -> None:
    student, teacher = random(B, D, seed=1), random(B, D, seed=2)
    expected = [VECTORS[loss](s, t) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert loss(student, teacher, MASK).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_first_token_may_stand_behind_padding() -> None:
    states = random(B, L, D, seed=1)
    assert matches.first_token(states, MASK).tolist() == [
        states[row, start].tolist() for row, start in enumerate((0, 0, 2))
    ]


@attention_losses
def test_attention_losses_against_naive_loops(loss: Callable[..., Tensor]) -> None:
    student, teacher, expected = scores(seed=1), scores(seed=2), []
    for row in range(B):
        tokens = MASK[row].nonzero().flatten().tolist()
        places = [(row, h, q, tokens) for h in range(H) for q in tokens]
        expected.append(sum(ATTENTION[loss](student[p].tolist(), teacher[p].tolist()) for p in places) / len(places))
    assert loss(student, teacher, MASK).tolist() == pytest.approx(expected, rel=1e-5)


def naive_relation_scores(projections: Tensor, query: int, tokens: list[int], heads: int) -> Vectors:
    """Each relation head's scores of a query over the keys: heads joined, then cut into equal slices."""
    joined = [[[v for head in heads_of for v in head[i]] for i in range(L)] for heads_of in projections.tolist()]
    size = len(joined[0][0]) // heads
    slices = [slice(r * size, (r + 1) * size) for r in range(heads)]
    return [[dot(joined[0][query][s], joined[-1][key][s]) / math.sqrt(size) for key in tokens] for s in slices]


@pytest.mark.parametrize("count", [1, 2], ids=["values", "queries and keys"])
@pytest.mark.parametrize("heads", [1, 3, 4])
def test_relation_kl_against_a_naive_loop(heads: int, count: int) -> None:
    student, teacher, expected = (
        queries_and_keys(2, 6, seed=1)[:, :count],
        queries_and_keys(3, 8, seed=2)[:, :count],
        [],
    )
    for row in range(B):
        tokens = MASK[row].nonzero().flatten().tolist()
        values = []
        for query in tokens:
            both = (naive_relation_scores(model[row], query, tokens, heads) for model in (student, teacher))
            values += [kl(naive_softmax(t), naive_softmax(s)) for s, t in zip(*both, strict=True)]
        expected.append(sum(values) / len(values))
    assert matches.relation_kl(student, teacher, MASK, heads).tolist() == pytest.approx(expected, rel=1e-5)


def test_relations_of_query_and_key_with_the_models_own_heads_are_their_attention() -> None:
    student, teacher = queries_and_keys(H, 4, seed=1), queries_and_keys(H, 9, seed=2)
    both = [(model[:, 0] @ model[:, 1].transpose(2, 3)) / model.shape[-1] ** 0.5 for model in (student, teacher)]
    torch.testing.assert_close(matches.relation_kl(student, teacher, MASK, H), matches.attention_kl(*both, MASK))


def test_different_head_counts_are_averaged() -> None:
    student, teacher = scores(2, seed=1), scores(4, seed=2)
    seen = MASK.bool()[:, None, None, :].expand(B, 1, L, L)
    means = [s.mean(1, keepdim=True).where(seen, LOWEST) for s in (student, teacher)]
    torch.testing.assert_close(
        matches.attention_score_mse(student, teacher, MASK), matches.attention_score_mse(*means, MASK)
    )
    # Scores whose softmax is the mean of the heads' probabilities.
    means = [s.softmax(-1).mean(1, keepdim=True).log().clamp(min=LOWEST) for s in (student, teacher)]
    for loss in (probability_mse, *DISTRIBUTIONS):
        torch.testing.assert_close(loss(student, teacher, MASK), loss(*means, MASK))


@distribution_losses
def test_keys_that_one_model_leaves_out_are_left_out_of_both(loss: Callable[..., Tensor]) -> None:
    student, teacher = scores(seed=1), scores(seed=2)
    window = (torch.arange(L)[:, None] - torch.arange(L)).abs() <= 1
    both = loss(student.masked_fill(~window, LOWEST), teacher.masked_fill(~window, LOWEST), MASK)
    torch.testing.assert_close(loss(student.masked_fill(~window, LOWEST), teacher, MASK), both)
    torch.testing.assert_close(loss(student, teacher.masked_fill(~window, LOWEST), MASK), both)
    assert (loss(student, teacher, MASK) - both)[0].abs() > 0.01


def pad(values: Tensor, dims: tuple[int, ...], fill: float) -> Tensor:
    for dim in dims:
        shape = list(values.shape)
        shape[dim] = 3
        values = torch.cat([values, torch.full(shape, fill, dtype=values.dtype)], dim)
    return values


LONGER = pad(MASK, (1,), 0)


@state_losses
def test_more_padding_changes_no_loss_of_states(loss: Callable[..., Tensor]) -> None:
    student, teacher = random(B, L, D, seed=1), random(B, L, D, seed=2)
    longer = loss(pad(student, (1,), 9.0), pad(teacher, (1,), -9.0), LONGER)
    torch.testing.assert_close(longer, loss(student, teacher, MASK))


@pytest.mark.parametrize("heads", [H, 4])
@attention_losses
def test_more_padding_changes_no_loss_of_attention(loss: Callable[..., Tensor], heads: int) -> None:
    student, teacher = scores(seed=1), scores(heads, seed=2)
    longer = [pad(pad(s, (2,), fill), (3,), LOWEST) for s, fill in ((student, 5.0), (teacher, -5.0))]
    torch.testing.assert_close(loss(*longer, LONGER), loss(student, teacher, MASK))


def test_more_padding_changes_no_relations() -> None:
    student, teacher = queries_and_keys(2, 6, seed=1), queries_and_keys(3, 8, seed=2)
    longer = [pad(projections, (3,), fill) for projections, fill in ((student, 9.0), (teacher, -9.0))]
    torch.testing.assert_close(matches.relation_kl(*longer, LONGER, 3), matches.relation_kl(student, teacher, MASK, 3))


def test_equal_models_have_no_loss() -> None:
    states, attention, relation = random(B, L, D, seed=1), scores(seed=1), queries_and_keys(H, 4, seed=1)
    for loss in STATES:
        assert loss(states, states, MASK).tolist() == pytest.approx([0] * B, abs=1e-6), loss
    for loss in VECTORS:
        assert loss(states[:, 0], states[:, 0], MASK).tolist() == [0] * B, loss
    for loss in ATTENTION.keys() - {matches.attention_cross_entropy}:
        assert loss(attention, attention, MASK).tolist() == [0] * B, loss
    assert matches.relation_kl(relation, relation, MASK, 4).tolist() == [0] * B


def gradient(loss: Callable[..., Tensor], student: Tensor, *others: Tensor) -> Tensor:
    student = student.clone().requires_grad_()
    return torch.autograd.grad(loss(student, *others).sum(), student)[0]


def test_attention_cross_entropy_and_kl_have_one_gradient() -> None:
    both = [gradient(loss, scores(seed=1), scores(seed=2), MASK) for loss in DISTRIBUTIONS]
    torch.testing.assert_close(*both)
    assert both[0].abs().max() > 0.01


def test_squared_distance_has_the_gradient_of_the_plain_formula() -> None:
    """It is an autograd function of its own."""
    student, teacher = scores(seed=1), scores(seed=2)
    seen = (MASK.bool()[:, None, :, None] & MASK.bool()[:, None, None, :]).expand(B, H, L, L)

    def plain(values: Tensor) -> Tensor:
        return (values - teacher).masked_fill(~seen, 0).square().sum((1, 2, 3))

    torch.testing.assert_close(matches.squared_distance(student, teacher, seen), plain(student))
    torch.testing.assert_close(gradient(matches.squared_distance, student, teacher, seen), gradient(plain, student))


@attention_losses
def test_gradients_stay_finite_where_nothing_is_attended(loss: Callable[..., Tensor]) -> None:
    values = gradient(loss, scores(seed=1), scores(4, seed=2), MASK)
    assert values.isfinite().all()
    assert (values[~MASK.bool()[:, None, None, :].expand_as(values)] == 0).all()


@state_losses
def test_gradients_stay_finite_at_padding_of_zeros(loss: Callable[..., Tensor]) -> None:
    student, teacher = (random(B, L, D, seed=seed) * MASK.unsqueeze(-1) for seed in (1, 2))
    values = gradient(loss, student, teacher, MASK)
    assert values.isfinite().all()
    assert (values[~MASK.bool()] == 0).all()


def test_products_stay_in_fp32_under_autocast() -> None:
    states = [random(B, L, D, seed=seed) for seed in (1, 2)]
    relations = [queries_and_keys(H, D, seed=seed) for seed in (1, 2)]
    plain = matches.gram_mse(*states, MASK), matches.relation_kl(*relations, MASK, H)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close((matches.gram_mse(*states, MASK), matches.relation_kl(*relations, MASK, H)), plain)
