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


def vectors(heads: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random query and key [B, H, L, d]."""
    return random(B, heads, L, width, seed=seed), random(B, heads, L, width, seed=seed + 100)


def probability_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Of scores, as the other losses of attention."""
    return matches.attention_probability_mse(student.softmax(-1), teacher.softmax(-1), mask)


def naive_softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def squares(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


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


def naive_cls_mse(student: Vectors, teacher: Vectors) -> float:
    return squares(student[0], teacher[0]) / len(student[0])


def naive_cls_normalised_mse(student: Vectors, teacher: Vectors) -> float:
    return squares(*([v / math.hypot(*states[0]) for v in states[0]] for states in (student, teacher)))


STATES = {
    matches.hidden_mse: naive_hidden_mse,
    matches.hidden_cosine: naive_hidden_cosine,
    matches.gram_mse: naive_gram_mse,
    matches.cls_mse: naive_cls_mse,
    matches.cls_normalised_mse: naive_cls_normalised_mse,
}
# Of one query of one head: raw scores of student and teacher over the keys -> what is averaged over all of them.
ATTENTION: dict[Callable[..., Tensor], Callable[[list[float], list[float]], float]] = {
    matches.attention_score_mse: lambda s, t: squares(s, t) / len(s),
    probability_mse: lambda s, t: squares(naive_softmax(s), naive_softmax(t)) / len(s),
    matches.attention_cross_entropy: lambda s, t: cross_entropy(naive_softmax(t), naive_softmax(s)),
    matches.attention_kl: lambda s, t: kl(naive_softmax(t), naive_softmax(s)),
}
DISTRIBUTIONS = [matches.attention_cross_entropy, matches.attention_kl]


def name(value: Any) -> str | None:
    return getattr(value, "__name__", None)


state_losses = pytest.mark.parametrize("loss", STATES, ids=name)
attention_losses = pytest.mark.parametrize("loss", ATTENTION, ids=name)
distribution_losses = pytest.mark.parametrize("loss", DISTRIBUTIONS, ids=name)
UNEQUAL = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)  # KL((3/4, 1/4) || halves)


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "wanted"),
    [
        (matches.hidden_mse, [[1, 2], [0, 3]], [[0, 0], [0, 0]], 3.5),  # (1 + 4 + 0 + 9) / 4
        (matches.hidden_cosine, [[1, 0], [0, 1]], [[3, 4], [6, 8]], 0.3),  # (1 - 3/5 + 1 - 4/5) / 2
        # Grams (1, 2; 2, 4) and (4, 0; 0, 4) / 2, differences -1, 2, 2, 2: (1 + 4 + 4 + 4) / 4.
        (matches.gram_mse, [[1], [2]], [[2, 0], [0, 2]], 3.25),
        (matches.cls_mse, [[1, 2], [9, 9]], [[0, 0], [0, 0]], 2.5),  # (1 + 4) / 2
        (matches.cls_normalised_mse, [[2, 0], [9, 9]], [[3, 4], [0, 0]], 0.8),  # (1 - 3/5)^2 + (4/5)^2
        (matches.attention_score_mse, [[[1, 2], [3, 4]]], [[[0, 0], [0, 0]]], 7.5),  # (1 + 4 + 9 + 16) / 4
        # (3/4, 1/4) against halves, and halves against halves: (1/16 + 1/16 + 0 + 0) / 4.
        (probability_mse, [[[LN3, 0], [0, 0]]], [[[0, 0], [5, 5]]], 1 / 32),
        # The student's halves cost ln 2 whatever the teacher; its (3/4, 1/4) costs halves -ln(3/16) / 2.
        (matches.attention_cross_entropy, [[[0, 0], [LN3, 0]]], [[[LN3, 0], [0, 0]]], LN2 / 2 + math.log(16 / 3) / 4),
        (matches.attention_kl, [[[0, 0], [7, 7]]], [[[LN3, 0], [0, 0]]], UNEQUAL / 2),
    ],
)
def test_hand_worked_numbers(loss: Callable[..., Tensor], student: Any, teacher: Any, wanted: float) -> None:
    given = [torch.tensor([values]).float() for values in (student, teacher)]
    assert loss(*given, torch.ones(1, 2, dtype=torch.long)).tolist() == pytest.approx([wanted])


def test_hand_worked_features_and_relations() -> None:
    assert matches.feature_mse(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])).tolist() == [2.5]
    # Width 4: the teacher's first query gives (2 ln 3, 0) / sqrt(4), its second (0, 0); the student's both (0, 0).
    query, key = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    query[0, 1, 0, 0], key[0, 1, 0, 0] = LN3, 2
    zero = torch.zeros(1, 1, 2, 3)
    mask = torch.ones(1, 2, dtype=torch.long)
    assert matches.relation_kl((zero, zero), (query, key), mask, 1).tolist() == pytest.approx([UNEQUAL / 2])


@state_losses
def test_state_losses_against_naive_loops(loss: Callable[..., Tensor]) -> None:
    student, teacher = random(B, L, D, seed=1), random(B, L, 7 if loss is matches.gram_mse else D, seed=2)
    rows = [[states[row, MASK[row].bool()].tolist() for states in (student, teacher)] for row in range(B)]
    wanted = [STATES[loss](*both) for both in rows]
    assert loss(student, teacher, MASK).tolist() == pytest.approx(wanted, rel=1e-5)


@attention_losses
def test_attention_losses_against_naive_loops(loss: Callable[..., Tensor]) -> None:
    student, teacher, wanted = scores(seed=1), scores(seed=2), []
    for row in range(B):
        tokens = MASK[row].nonzero().flatten().tolist()
        places = [(row, h, q, tokens) for h in range(H) for q in tokens]
        wanted.append(sum(ATTENTION[loss](student[p].tolist(), teacher[p].tolist()) for p in places) / len(places))
    assert loss(student, teacher, MASK).tolist() == pytest.approx(wanted, rel=1e-5)


def test_feature_mse_against_a_naive_loop() -> None:
    student, teacher = random(B, D, seed=1), random(B, D, seed=2)
    wanted = [squares(s, t) / D for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert matches.feature_mse(student, teacher).tolist() == pytest.approx(wanted, rel=1e-5)


def naive_relation_scores(pair: tuple[Tensor, Tensor], row: int, query: int, tokens: list[int], heads: int) -> Vectors:
    """Each relation head's scores of a query over the keys: heads joined, then cut into equal slices."""
    a = [v for head in pair[0][row].tolist() for v in head[query]]
    size = len(a) // heads
    found: Vectors = [[] for _ in range(heads)]
    for token in tokens:
        b = [v for head in pair[1][row].tolist() for v in head[token]]
        for r in range(heads):
            part = slice(r * size, (r + 1) * size)
            found[r].append(dot(a[part], b[part]) / math.sqrt(size))
    return found


@pytest.mark.parametrize("heads", [1, 3, 4])
def test_relation_kl_against_a_naive_loop(heads: int) -> None:
    student, teacher, wanted = vectors(2, 6, seed=1), vectors(3, 8, seed=2), []
    for row in range(B):
        tokens = MASK[row].nonzero().flatten().tolist()
        values = []
        for query in tokens:
            both = (naive_relation_scores(pair, row, query, tokens, heads) for pair in (student, teacher))
            values += [kl(naive_softmax(t), naive_softmax(s)) for s, t in zip(*both, strict=True)]
        wanted.append(sum(values) / len(values))
    assert matches.relation_kl(student, teacher, MASK, heads).tolist() == pytest.approx(wanted, rel=1e-5)


def test_relations_of_query_and_key_with_the_models_own_heads_are_their_attention() -> None:
    student, teacher = vectors(H, 4, seed=1), vectors(H, 9, seed=2)
    given = [(query @ key.transpose(2, 3)) / query.shape[-1] ** 0.5 for query, key in (student, teacher)]
    torch.testing.assert_close(
        matches.relation_kl(student, teacher, MASK, H), matches.attention_kl(given[0], given[1], MASK)
    )


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
    student, teacher = vectors(2, 6, seed=1), vectors(3, 8, seed=2)
    longer = [tuple(pad(v, (2,), fill) for v in pair) for pair, fill in ((student, 9.0), (teacher, -9.0))]
    torch.testing.assert_close(matches.relation_kl(*longer, LONGER, 3), matches.relation_kl(student, teacher, MASK, 3))


def test_equal_models_have_no_loss() -> None:
    states, attention, relation = random(B, L, D, seed=1), scores(seed=1), vectors(H, 4, seed=1)
    for loss in STATES:
        assert loss(states, states, MASK).tolist() == pytest.approx([0] * B, abs=1e-6), loss
    assert matches.feature_mse(states[:, 0], states[:, 0]).tolist() == [0] * B
    for loss in ATTENTION.keys() - {matches.attention_cross_entropy}:
        assert loss(attention, attention, MASK).tolist() == [0] * B, loss
    assert matches.relation_kl(relation, relation, MASK, 4).tolist() == [0] * B


def gradient(loss: Callable[..., Tensor], student: Tensor, *others: Tensor) -> Tensor:
    student = student.clone().requires_grad_()
    return torch.autograd.grad(loss(student, *others).sum(), student)[0]


def test_attention_cross_entropy_and_kl_have_one_gradient() -> None:
    found = [gradient(loss, scores(seed=1), scores(seed=2), MASK) for loss in DISTRIBUTIONS]
    torch.testing.assert_close(*found)
    assert found[0].abs().max() > 0.01


@attention_losses
def test_gradients_stay_finite_where_nothing_is_attended(loss: Callable[..., Tensor]) -> None:
    found = gradient(loss, scores(seed=1), scores(4, seed=2), MASK)
    assert found.isfinite().all()
    assert (found[~MASK.bool()[:, None, None, :].expand_as(found)] == 0).all()


@state_losses
def test_gradients_stay_finite_at_padding_of_zeros(loss: Callable[..., Tensor]) -> None:
    student, teacher = (random(B, L, D, seed=seed) * MASK.unsqueeze(-1) for seed in (1, 2))
    found = gradient(loss, student, teacher, MASK)
    assert found.isfinite().all()
    assert (found[~MASK.bool()] == 0).all()


def test_products_stay_in_fp32_under_autocast() -> None:
    states, relations = [random(B, L, D, seed=seed) for seed in (1, 2)], [vectors(H, D, seed=seed) for seed in (1, 2)]
    plain = matches.gram_mse(*states, MASK), matches.relation_kl(*relations, MASK, H)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close((matches.gram_mse(*states, MASK), matches.relation_kl(*relations, MASK, H)), plain)
