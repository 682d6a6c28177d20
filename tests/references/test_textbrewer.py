"""Our losses equal TextBrewer's; requirements.txt says how to run these tests.

TextBrewer has one number per batch, we have one per row. Its mean over the tokens of a batch is the mean of our rows
weighted by their tokens, its mean over pairs of tokens is weighted by tokens squared, its mean over rows is unweighted.
Each test names the factor that remains.
"""

import pytest
import torch
from torch import Tensor

from metakd.objectives import losses, matches

pytest.importorskip("textbrewer", reason="TextBrewer is not installed; see tests/references/requirements.txt")
from textbrewer import losses as textbrewer

B, L, D, H, C = 4, 6, 8, 3, 5
MASK = (torch.arange(L) < torch.tensor([6, 2, 3, 5])[:, None]).long()
TOKENS = MASK.sum(1)


def random(*shape: int, seed: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weighted(rows: Tensor, weights: Tensor) -> Tensor:
    return (rows * weights).sum() / weights.sum()


STATES = random(B, L, D, seed=1), random(B, L, D, seed=2)
LOGITS = random(B, C, seed=1), random(B, C, seed=2)
temperatures = pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])


def scores(padding: float) -> tuple[Tensor, Tensor]:
    """Raw scores of both; TextBrewer's softmax runs over padding too, so they must be low there."""
    hidden = ~MASK.bool()[:, None, None, :]
    return tuple(random(B, H, L, L, seed=seed).masked_fill(hidden, padding) for seed in (1, 2))


SCORES = scores(torch.finfo(torch.float32).min)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@temperatures
def test_soft_cross_entropy(temperature: float) -> None:
    """TextBrewer leaves T^2 to the user's weights."""
    ours = losses.soft_cross_entropy(*LOGITS, temperature) / temperature**2
    assert_same(ours.mean(), textbrewer.kd_ce_loss(*LOGITS, temperature))


@temperatures
def test_logits_mse(temperature: float) -> None:
    """TextBrewer divides the logits by T."""
    ours = losses.logits_mse(*LOGITS) / temperature**2
    assert_same(ours.mean(), textbrewer.kd_mse_loss(*LOGITS, temperature))


@pytest.mark.parametrize("mask", [MASK, torch.ones_like(MASK)], ids=["padded", "full"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(matches.hidden_mse, textbrewer.hid_mse_loss), (matches.hidden_cosine, textbrewer.cos_loss)],
    ids=["mse", "cosine"],
)
def test_hidden(ours, theirs, mask: Tensor) -> None:
    assert_same(weighted(ours(*STATES, mask), mask.sum(1)), theirs(*STATES, mask))


def test_normalised_vector_mse() -> None:
    """TextBrewer takes position 0; padding stands on the right here."""
    first = [matches.first_token(states, MASK) for states in STATES]
    assert_same(matches.normalised_vector_mse(*first, MASK).mean(), textbrewer.pkd_loss(*STATES))


@pytest.mark.parametrize("width", [D, 5])
def test_gram_mse_without_padding(width: int) -> None:
    student, teacher = STATES[0][..., :width], STATES[1]
    ours = matches.gram_mse(student, teacher, torch.ones_like(MASK))
    assert_same(ours.mean(), textbrewer.mmd_loss([student] * 2, [teacher] * 2))


def test_gram_mse_with_padding() -> None:
    """With a mask, TextBrewer divides each Gram matrix by the padded length L instead of the width D.

    For equal widths this is a factor (D/L)^2, so its number depends on the length of the batch.
    """
    ours = weighted(matches.gram_mse(*STATES, MASK), TOKENS**2)
    assert_same(ours * (D / L) ** 2, textbrewer.mmd_loss([STATES[0]] * 2, [STATES[1]] * 2, MASK))


def test_attention_score_mse() -> None:
    """Without a mask TextBrewer counts negative scores as 0."""
    ours = weighted(matches.attention_score_mse(*SCORES, MASK), TOKENS**2)
    assert_same(ours, textbrewer.att_mse_loss(*SCORES, MASK))


def test_attention_cross_entropy() -> None:
    ours = weighted(matches.attention_cross_entropy(*SCORES, MASK), TOKENS)
    assert_same(ours, textbrewer.att_ce_loss(*SCORES, MASK))


def test_attention_cross_entropy_of_averaged_heads() -> None:
    """TextBrewer averages scores over heads; for unequal head counts we average probabilities.

    The scores of padding are moderate, because the sum of several lowest numbers is not finite.
    """
    student, teacher = scores(-1e4)
    means = [s.mean(1, keepdim=True) for s in (student, teacher)]
    ours = weighted(matches.attention_cross_entropy(*means, MASK), TOKENS)
    assert_same(ours, textbrewer.att_ce_mean_loss(student, teacher, MASK))
