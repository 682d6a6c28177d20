"""Our losses give TextBrewer's numbers. How to run it stands in requirements.txt.

TextBrewer has one number a batch, we have one a row. Its mean over a batch's tokens is our rows' mean weighted by
their tokens, its mean over pairs of tokens ours weighted by tokens squared, its mean over rows ours as it is.
What remains different is a factor, said at each test.
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
HEATS = pytest.mark.parametrize("temperature", [1.0, 4.0, torch.tensor([0.5, 1.0, 2.0, 4.0])], ids=["1", "4", "rows"])


def scores(padding: float) -> tuple[Tensor, Tensor]:
    """Raw scores of both; TextBrewer's softmax runs over padding too, so they must be low there."""
    hidden = ~MASK.bool()[:, None, None, :]
    return tuple(random(B, H, L, L, seed=seed).masked_fill(hidden, padding) for seed in (1, 2))


SCORES = scores(torch.finfo(torch.float32).min)


def same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@HEATS
def test_soft_cross_entropy(temperature: float | Tensor) -> None:
    """TextBrewer leaves T^2 to the user's weights."""
    ours = losses.soft_cross_entropy(*LOGITS, temperature) / temperature**2
    same(ours.mean(), textbrewer.kd_ce_loss(*LOGITS, temperature))


@HEATS
def test_logits_mse(temperature: float | Tensor) -> None:
    """TextBrewer divides the logits by T."""
    ours = losses.logits_mse(*LOGITS) / torch.as_tensor(temperature) ** 2
    same(ours.mean(), textbrewer.kd_mse_loss(*LOGITS, temperature))


@pytest.mark.parametrize("mask", [MASK, torch.ones_like(MASK)], ids=["padded", "full"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(matches.hidden_mse, textbrewer.hid_mse_loss), (matches.hidden_cosine, textbrewer.cos_loss)],
    ids=["mse", "cosine"],
)
def test_hidden(ours, theirs, mask: Tensor) -> None:
    same(weighted(ours(*STATES, mask), mask.sum(1)), theirs(*STATES, mask))


def test_cls_normalised_mse() -> None:
    """TextBrewer takes position 0; padding stands on the right here."""
    same(matches.cls_normalised_mse(*STATES, MASK).mean(), textbrewer.pkd_loss(*STATES))


@pytest.mark.parametrize("width", [D, 5])
def test_gram_mse_without_padding(width: int) -> None:
    student, teacher = STATES[0][..., :width], STATES[1]
    ours = matches.gram_mse(student, teacher, torch.ones_like(MASK))
    same(ours.mean(), textbrewer.mmd_loss([student] * 2, [teacher] * 2))


def test_gram_mse_with_padding() -> None:
    """Given a mask, TextBrewer divides each Gram matrix by the padded length L instead of the width D.

    For equal widths that is a factor (D/L)^2, which makes its number depend on the batch's length.
    """
    ours = weighted(matches.gram_mse(*STATES, MASK), TOKENS**2)
    same(ours * (D / L) ** 2, textbrewer.mmd_loss([STATES[0]] * 2, [STATES[1]] * 2, MASK))


def test_attention_score_mse() -> None:
    """Given a mask; without one TextBrewer counts negative scores as 0, and its numbers are others."""
    ours = weighted(matches.attention_score_mse(*SCORES, MASK), TOKENS**2)
    same(ours, textbrewer.att_mse_loss(*SCORES, MASK))


def test_attention_cross_entropy() -> None:
    ours = weighted(matches.attention_cross_entropy(*SCORES, MASK), TOKENS)
    same(ours, textbrewer.att_ce_loss(*SCORES, MASK))


def test_attention_cross_entropy_of_averaged_heads() -> None:
    """TextBrewer averages scores over heads, where we, for unequal head counts, average probabilities.

    The scores of padding are moderate: the sum of several heads' lowest numbers has no finite value.
    """
    student, teacher = scores(-1e4)
    means = [s.mean(1, keepdim=True) for s in (student, teacher)]
    ours = weighted(matches.attention_cross_entropy(*means, MASK), TOKENS)
    same(ours, textbrewer.att_ce_mean_loss(student, teacher, MASK))
