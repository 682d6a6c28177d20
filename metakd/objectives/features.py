"""What student and teacher can be compared in: one record per feature, which everything else reads.

A record says how a model shows the feature, which axes a row's values have (to cache them without padding), which
losses compare it, and how a student of another width is projected. Adding a feature is adding a record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from metakd.data.encoding import Batch
from metakd.models.domain_head import DomainHead
from metakd.models.views import ViewRequest, Views, compute_views
from metakd.objectives import matches

Source = Literal["hidden", "scores", "probabilities", "projections", "transferable"]
Match = Callable[..., Tensor]  # (student, teacher, mask [B, L]) -> [B]; relations take heads too
FeatureLayer = tuple[str, int]  # a feature in a layer; 0 where it has no layers
TRANSFERABLE: FeatureLayer = ("transferable", 0)


@dataclass(frozen=True)
class Feature:
    """A feature that a network shows inside.

    Args:
        source: what the forward pass must show (`metakd.models.views.ViewRequest`).
        read: the values [B, ...] of a layer, from the views and the token mask [B, L].
        axes: names of a row's axes, one letter each; "L" is the token axis.
        losses: per-row losses by name.
        by_layer: whether a term maps its layers; else it is read in layer 0.
        any_architecture: whether models without attention show it too.
        projection: which shared linear layer maps the student to the teacher's width; "" if widths never matter.
        width_free: losses that compare any two widths without a projection.
        relation_heads: whether heads are regrouped, so that the losses take a number of heads.
    """

    source: Source
    read: Callable[[Views, int, Tensor], Tensor]
    axes: str
    losses: Mapping[str, Match]
    by_layer: bool = True
    any_architecture: bool = False
    projection: str = ""
    width_free: Collection[str] = ()
    relation_heads: bool = False

    @property
    def has_embedding_layer(self) -> bool:
        """Whether layer 0, the embedding, shows the feature."""
        return self.source == "hidden"

    def row_shape(self, values: Tensor, length: int) -> tuple[int, ...]:
        """Shape of one row of `length` tokens, given a batch of values [B, ...]."""
        return tuple(length if axis == "L" else size for axis, size in zip(self.axes, values.shape[1:], strict=True))

    def shown_by(self, config: PreTrainedConfig) -> bool:
        """Whether a model of this configuration shows the feature."""
        heads = getattr(config, "num_attention_heads", None)
        if heads is None:
            return self.any_architecture
        grouped = (getattr(config, "num_key_value_heads", None) or heads) != heads  # keys narrower than queries
        return not (grouped and self.relation_heads)


def read_hidden(views: Views, layer: int, mask: Tensor) -> Tensor:
    return views.hidden[layer]


def read_cls(views: Views, layer: int, mask: Tensor) -> Tensor:
    return matches.first_token(views.hidden[layer], mask)


def read_scores(views: Views, layer: int, mask: Tensor) -> Tensor:
    return views.scores[layer]


def read_probabilities(views: Views, layer: int, mask: Tensor) -> Tensor:
    return views.probabilities[layer]


def read_queries_and_keys(views: Views, layer: int, mask: Tensor) -> Tensor:
    return torch.stack(views.projections[layer][:2], 1)


def read_values(views: Views, layer: int, mask: Tensor) -> Tensor:
    return views.projections[layer][2].unsqueeze(1)


def read_transferable(views: Views, layer: int, mask: Tensor) -> Tensor:
    assert views.transferable is not None
    return views.transferable


STATE_LOSSES = {"mse": matches.hidden_mse, "cosine": matches.hidden_cosine, "gram_mse": matches.gram_mse}

FEATURES: dict[str, Feature] = {
    "embedding": Feature(
        "hidden", read_hidden, "LD", STATE_LOSSES, by_layer=False, projection="hidden", width_free=["gram_mse"]
    ),
    "hidden": Feature(
        "hidden", read_hidden, "LD", STATE_LOSSES, any_architecture=True, projection="hidden", width_free=["gram_mse"]
    ),
    "cls": Feature(
        "hidden", read_cls, "D", {"mse": matches.vector_mse, "normalised_mse": matches.normalised_vector_mse},
        projection="hidden",
    ),
    "attention_scores": Feature(
        "scores", read_scores, "HLL",
        {
            "mse": matches.attention_score_mse,
            "centred_mse": matches.centred_score_mse,
            "cross_entropy": matches.attention_cross_entropy,
            "kl": matches.attention_kl,
        },
    ),
    "attention_probabilities": Feature(
        "probabilities", read_probabilities, "HLL", {"mse": matches.attention_probability_mse}
    ),
    "query_key_relation": Feature(
        "projections", read_queries_and_keys, "PHLd", {"kl": matches.relation_kl}, relation_heads=True
    ),
    "value_relation": Feature("projections", read_values, "PHLd", {"kl": matches.relation_kl}, relation_heads=True),
    "transferable": Feature(
        "transferable", read_transferable, "D", {"mse": matches.vector_mse}, by_layer=False, any_architecture=True,
        projection="transferable",
    ),
}  # fmt: skip


@dataclass
class FeatureValues:
    """What a network shows of a batch, as terms compare it.

    Args:
        logits: [B, C]; None where nobody asked the teacher for them.
        features: values [B, ...] by feature and layer.
    """

    logits: Tensor | None
    features: dict[FeatureLayer, Tensor] = field(default_factory=dict)


def request_for(wanted: Collection[FeatureLayer]) -> ViewRequest:
    """What a forward pass must show so that these features can be read."""

    def layers(source: Source) -> frozenset[int]:
        return frozenset(layer for name, layer in wanted if FEATURES[name].source == source)

    transferable = any(FEATURES[name].source == "transferable" for name, _ in wanted)
    return ViewRequest(layers("hidden"), layers("scores"), layers("probabilities"), layers("projections"), transferable)


def compute_features(
    model: PreTrainedModel, batch: Batch, wanted: Collection[FeatureLayer], head: DomainHead | None = None
) -> FeatureValues:
    """Run a classifier once and read its logits and these features.

    Args:
        head: the classifier's domain head; needed for the transferable feature.
    """
    views = compute_views(model, batch, request_for(wanted), head)
    mask = batch["attention_mask"]
    features = {(name, layer): FEATURES[name].read(views, layer, mask) for name, layer in wanted}
    return FeatureValues(views.logits, features)
