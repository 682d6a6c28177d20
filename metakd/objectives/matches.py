"""Losses between features inside two models, one number per row: [B], in fp32.

`mask` [B, L] is 1 at tokens and 0 at padding. Padding never counts, so a row's loss does not depend on the length of
its batch.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metakd.models.attention import attended
from metakd.models.pooling import masked_mean
from metakd.objectives.losses import divergence


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference over a row's tokens and dimensions: [B, L, D] -> [B] (TinyBERT, equation 8)."""
    tokens = mask.sum(-1).clamp(min=1)
    return squared_distance(student, teacher, mask.unsqueeze(-1)) / (tokens * student.shape[-1])


def hidden_cosine(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean over a row's tokens of 1 - cosine: [B, L, D] -> [B] (DistilBERT, Sanh et al. 2019, section 2)."""
    return token_mean(1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1), mask)


def gram_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of S S^T / Ds and T T^T / Dt over pairs of tokens: [B, L, Ds], [B, L, Dt] -> [B].

    The maximum mean discrepancy under a polynomial kernel of degree 2 (NST, Huang & Wang 2017), each dimension
    being a sample over the tokens; not normalised as there, as in TextBrewer's "mmd". Widths may differ.
    """
    grams = [products(states, states) / states.shape[-1] for states in (student, teacher)]
    pairs = mask.bool()[:, :, None] & mask.bool()[:, None, :]
    difference = torch.where(pairs, grams[0] - grams[1], 0.0)
    return difference.square().sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)


def vector_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference over the dimensions of a vector: [B, D] -> [B] (for h: Meta-KD, section 3.3)."""
    return (student.float() - teacher.float()).square().mean(-1)


def normalised_vector_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """||s/|s| - t/|t|||^2 of one vector per row, a sum over dimensions: [B, D] -> [B].

    Patient KD, Sun et al. 2019, equation 7.
    """
    difference = F.normalize(student.float(), dim=-1) - F.normalize(teacher.float(), dim=-1)
    return difference.square().sum(-1)


def attention_score_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of raw scores over heads and attended pairs of tokens: [B, H, L, L] -> [B].

    TinyBERT, equation 7, which matches scores before the softmax. Where the head counts differ, both are
    averaged over their heads first.
    """
    # All heads attend to the same pairs.
    seen = attended(student[:, :1]) & attended(teacher[:, :1]) & mask.bool()[:, None, :, None]
    student, teacher = match_heads(student, teacher)
    return squared_distance(student, teacher, seen) / (seen.sum((1, 2, 3)) * student.shape[1]).clamp(min=1)


def centred_score_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """`attention_score_mse` after each query's mean over its keys is subtracted: [B, H, L, L] -> [B].

    The softmax ignores a constant that is added to all scores of a query, so this compares what attention depends on.
    """
    seen = attended(student[:, :1]) & attended(teacher[:, :1]) & mask.bool()[:, None, :, None]
    counts = seen.sum(-1, keepdim=True).clamp(min=1)

    def centred(scores: Tensor) -> Tensor:
        values = torch.where(seen, scores.float(), 0.0)
        return torch.where(seen, values - values.sum(-1, keepdim=True) / counts, torch.finfo(torch.float32).min)

    return attention_score_mse(centred(student), centred(teacher), mask)


def attention_probability_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of probabilities over heads and pairs of tokens: [B, H, L, L] -> [B]."""
    student, teacher = match_heads(student, teacher)
    pairs = mask[:, None, :, None] * mask[:, None, None, :]
    return squared_distance(student, teacher, pairs) / (pairs.sum((1, 2, 3)) * student.shape[1]).clamp(min=1)


def attention_cross_entropy(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """-sum_k softmax(teacher) log softmax(student), mean over heads and query tokens: scores [B, H, L, L] -> [B].

    TextBrewer's "attention_ce". Where the head counts differ, probabilities are averaged over heads first.
    """
    predicted, target = log_attention(student, teacher, mask)
    return token_mean(-(target.exp() * predicted).sum(-1).mean(1), mask)


def attention_kl(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)), mean over heads and query tokens: scores [B, H, L, L] -> [B].

    MiniLM, Wang et al. 2020, section 3.1. Has the gradient of `attention_cross_entropy`, and is 0 where both agree.
    """
    predicted, target = log_attention(student, teacher, mask)
    return token_mean(divergence(target, predicted).mean(1), mask)


def relation_kl(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """KL(teacher || student) of relations between tokens, mean over relation heads and query tokens -> [B].

    MiniLMv2, Wang et al. 2021, section 3.1; with the models' own number of heads it is MiniLM, section 3.2.

    Args:
        student: queries and keys, or the values alone, of a layer: [B, 2 or 1, H, L, d].
        teacher: the same of the teacher; its H and d may differ.
        heads: number of relation heads; must divide both widths H d.
    """
    target, predicted = (relation_scores(pair[:, 0], pair[:, -1], heads) for pair in (teacher, student))
    return attention_kl(predicted, target, mask)


def relation_scores(a: Tensor, b: Tensor, heads: int) -> Tensor:
    """a b^T / sqrt(width / heads) of each relation head: [B, H, L, d] -> [B, heads, L, L].

    Heads are joined to one width H d and split again, so that any two models have the same number of heads.
    """
    split = [v.transpose(1, 2).flatten(2).unflatten(2, (heads, -1)).transpose(1, 2) for v in (a, b)]
    return products(split[0], split[1]) / math.sqrt(split[0].shape[-1])


def log_attention(student: Tensor, teacher: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of student and teacher over the keys that both attend to: 2 scores -> 2 x [B, H, L, L].

    Other keys (padding, or outside a local window) have no finite logarithm in one of the two. Where the head counts
    differ, probabilities are averaged over heads as in `match_heads`, but in logarithms.
    """
    seen = attended(student[:, :1]) & attended(teacher[:, :1]) & mask.bool()[:, None, None, :]
    lowest = torch.finfo(torch.float32).min
    predicted, target = (scores.float().masked_fill(~seen, lowest).log_softmax(-1) for scores in (student, teacher))
    if predicted.shape[1] == target.shape[1]:
        return predicted, target
    return log_head_mean(predicted), log_head_mean(target)


def log_head_mean(logs: Tensor) -> Tensor:
    """Logarithm of the mean over heads of exp(logs): [B, H, L, L] -> [B, 1, L, L]."""
    return logs.logsumexp(1, keepdim=True) - math.log(logs.shape[1])


def match_heads(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average both over their heads if the head counts differ: [B, H, L, L] -> [B, 1, L, L]."""
    if student.shape[1] == teacher.shape[1]:
        return student, teacher
    lowest = torch.finfo(torch.float32).min  # a sum of several would overflow
    means = [values.float().mean(1, keepdim=True).clamp(min=lowest) for values in (student, teacher)]
    return means[0], means[1]


class _SquaredDistance(torch.autograd.Function):
    """A sum of squares in few passes over memory: a layer's attention scores are the largest tensors of a step."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, keep: Tensor) -> Tensor:
        # Masked scores hold finfo.min, so the product stays finite. Operands of one dtype are fast on a CPU.
        difference = student.float().sub(teacher.float()).mul_(keep.float())
        ctx.save_for_backward(difference.to(student.dtype))
        return torch.linalg.vector_norm(difference.flatten(1), dim=1).square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (difference,) = ctx.saved_tensors
        factor = (2 * gradient).to(difference.dtype).view(-1, *[1] * (difference.ndim - 1))
        return difference * factor, None, None


def squared_distance(student: Tensor, teacher: Tensor, keep: Tensor) -> Tensor:
    """Sum over a row's elements of (student - teacher)^2 where `keep` is not 0: 2 x [B, ...] -> [B], in fp32.

    The teacher gets no gradient.

    Args:
        keep: [B, ...]; broadcast over dimensions of size 1.
    """
    return _SquaredDistance.apply(student, teacher, keep)


def products(a: Tensor, b: Tensor) -> Tensor:
    """a b^T of the last two dimensions, in fp32: [..., L, D] -> [..., L, L].

    Losses run inside the model's autocast, which would compute a matrix product in bf16.
    """
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float().transpose(-1, -2)


def first_token(states: Tensor, mask: Tensor) -> Tensor:
    """The state of each row's first token, in fp32: [B, L, D] -> [B, D]; padding may stand on either side."""
    return states[torch.arange(len(states), device=states.device), mask.int().argmax(1)].float()


def token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over a row's tokens: [B, L] -> [B]."""
    return masked_mean(values.unsqueeze(-1), mask).squeeze(-1)
