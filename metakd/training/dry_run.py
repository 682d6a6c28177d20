"""One dry run of models and tokenizer before any long work: two short rows, alone and padded together.

What a model family must have is tried here, not assumed: a row's outputs and features do not depend on the other rows
of its batch, every id, token type and position that the tokenizer makes exists, and the features that a method matches
can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from metakd.data.encoding import Batch, EncodedRows, encode_few, model_inputs
from metakd.data.labels import Labels
from metakd.errors import InputError
from metakd.models.domain_head import DomainHead
from metakd.models.loading import load_classifier, load_encoder, load_tokenizer
from metakd.models.model_files import explaining
from metakd.objectives.features import FEATURES, FeatureLayer, compute_features

# A single word and a longer pair, so that one row is padded and both token types occur, even in very short rows.
TEXTS = {"text_a": ["good", "it was the best film that we saw in years"], "text_b": ["", "and not a dull one"]}
TOLERANCE = 1e-3  # of the largest value; fp32 sums in another order differ by some 1e-6


def load_with_tokenizer(
    name: str, labels: Labels | None, max_length: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model and its tokenizer, tried together.

    Args:
        labels: of a classifier; None loads an encoder without head.

    Raises:
        InputError: see `metakd.models.loading` and `try_model`.
    """
    model = load_encoder(name) if labels is None else load_classifier(name, labels)
    tokenizer = load_tokenizer(name)
    if model.config.pad_token_id is None:  # causal models look for the last token that is not padding
        model.config.pad_token_id = tokenizer.pad_token_id
    try_model(model, tokenizer, max_length, name)
    return model, tokenizer


def try_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, name: str) -> None:
    """Refuse a model and a tokenizer that do not fit each other, or rows of a length that the model cannot take.

    Raises:
        InputError: an id, token type or position that the model lacks, no padding token, outputs that are not finite,
            or outputs of a row that depend on its padding.
    """
    if tokenizer.pad_token_id is None:
        raise InputError(f"{name}: the tokenizer has no padding token; set one and save the tokenizer again")
    words = word_embeddings(model)
    if words is not None and (largest := max(tokenizer.get_vocab().values())) >= words:
        raise InputError(
            f"{name}: the tokenizer makes ids up to {largest}, the model has {words} word embeddings; use the "
            "tokenizer that the model was trained with"
        )
    with trying(model, name, "two short rows", "use another model, or its own tokenizer"):
        rows = example_rows(tokenizer, max_length)
        check_token_types(model, rows, name)
        compare(model, rows, lambda batch: {"the outputs": (outputs(model, batch), None)}, name, tokenizer)
    try_length(model, tokenizer, max_length, name)


def check_token_types(model: PreTrainedModel, rows: EncodedRows, name: str) -> None:
    """Refuse token types that the model does not have."""
    types = getattr(model.config, "type_vocab_size", None)
    if types and "token_type_ids" in rows.tokens.column_names:
        largest = max(map(max, rows.tokens["token_type_ids"]))
        if largest >= types:
            raise InputError(
                f"{name}: the tokenizer makes token types up to {largest}, the model has {types}; take token_type_ids "
                "out of model_input_names in tokenizer_config.json"
            )


def word_embeddings(model: PreTrainedModel) -> int | None:
    """The number of word embeddings; None if the model hashes ids, as CANINE does."""
    try:
        return model.get_input_embeddings().weight.shape[0]
    except (NotImplementedError, AttributeError):
        return None


def try_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, name: str) -> None:
    """Refuse a max_length beyond the model's positions.

    Families count positions differently, so a row of that length is run; what their configurations say is believed too,
    since some families run beyond the positions that they were trained with.
    """
    declared = getattr(model.config, "max_position_embeddings", None) or 0
    positions = declared if 0 < declared < max_length else max_length  # some families have -1, for no limit
    text = " ".join(TEXTS["text_a"][:1] * positions)
    with trying(model, name, "a long row", "use another model, or its own tokenizer"):
        ids = torch.tensor([tokenizer(text, truncation=True, max_length=positions)["input_ids"]], device=model.device)

    def fits(length: int) -> bool:
        try:
            with evaluating(model):
                outputs(model, {"input_ids": ids[:, :length], "attention_mask": torch.ones_like(ids[:, :length])})
        except Exception:  # families refuse long rows in many ways
            return False
        return True

    if not fits(min(positions, ids.shape[1])):
        low, high = 1, positions  # the longest row that fits
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        positions = low
    if positions < max_length:
        raise InputError(
            f"max_length is {max_length}, but {name} has {positions} positions; set task.max_length or the option "
            f"max_length to {positions} or less"
        )


def try_features(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    wanted: Collection[FeatureLayer],
    head: DomainHead | None,
    name: str,
) -> None:
    """Read features once, and refuse a model that does not show them, or shows what depends on padding.

    Args:
        model: prepared by `metakd.models.attention.enable_reading` if attention is read.
        head: its domain head; a fresh one stands in where it is not made yet.
    """
    if not wanted:
        return
    names = ", ".join(dict.fromkeys(feature for feature, _ in wanted))

    def read(batch: Batch) -> dict[str, tuple[Tensor, str | None]]:
        values = compute_features(model, batch, wanted, head).features
        return {
            f"{feature} of layer {layer}": (values[feature, layer], FEATURES[feature].axes) for feature, layer in values
        }

    with trying(model, name, names, f"use another model, or a method without {names}"):
        if head is None and any(FEATURES[feature].source == "transferable" for feature, _ in wanted):
            head = DomainHead(model.config.hidden_size, 1).to(model.device)
        compare(model, example_rows(tokenizer, max_length), read, name, tokenizer)


def example_rows(tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
    """The rows of the dry run, as a table's rows are tokenised."""
    return encode_few(["short", "long"], TEXTS, tokenizer, max_length)


def outputs(model: PreTrainedModel, batch: Batch) -> Tensor:
    """A classifier's logits [B, C], or an encoder's last hidden states [B, L, D]."""
    output = model(**model_inputs(batch))
    return output.logits if "logits" in output else output.last_hidden_state


def compare(
    model: PreTrainedModel,
    rows: EncodedRows,
    compute: Callable[[Batch], dict[str, tuple[Tensor, str | None]]],
    name: str,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Raise InputError unless the short row's values are the same alone and padded to the long one.

    Args:
        compute: from a batch to values [B, ...] and the names of their axes without B; None for logits [B, C] or token
            states [B, L, D].
    """

    def run(numbers: Sequence[int]) -> dict[str, tuple[Tensor, str | None]]:
        return compute({key: value.to(model.device) for key, value in rows.batch(np.array(numbers)).items()})

    with evaluating(model):
        together, alone = run([0, 1]), run([0])
    length = int(rows.lengths[0])
    for what, (values, named_axes) in alone.items():
        axes = named_axes or ("LD" if values.dim() == 3 else "C")
        tokens = [size for axis, size in zip(axes, values.shape[1:], strict=True) if axis == "L" and size != length]
        if tokens:
            raise InputError(f"{name}: {what} has {tokens[0]} tokens for a row of {length}; use another model")
        slices = tuple(slice(length) if axis == "L" else slice(None) for axis in axes)
        masked = torch.finfo(values.dtype).min  # the attention score of pairs outside a window
        one, other = (row.masked_fill(row == masked, 0) for row in (values[0], together[what][0][0][slices]))
        if not bool(one.isfinite().all() & together[what][0].isfinite().all()):
            raise InputError(f"{name}: {what} holds NaN or infinity for a short row; the weights are damaged")
        largest, difference = float(one.abs().max()), float((one - other).abs().max())
        if difference > TOLERANCE * largest:
            raise InputError(
                f"{name}: {what} of a row differ alone and padded in a batch, by {difference:.2g} of {largest:.2g}; "
                f"{padding_remedy(model, tokenizer)}"
            )


def padding_remedy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """What to do where a model's outputs depend on padding."""
    of_model, of_tokenizer = model.config.pad_token_id, tokenizer.pad_token_id
    if of_model != of_tokenizer:
        return f"pad_token_id is {of_model} in config.json and {of_tokenizer} in the tokenizer; make them agree"
    return f"the outputs of a {model.config.model_type} depend on padding; use another model"


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Without dropout and gradients; then the model is in its mode again."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def trying(model: PreTrainedModel, name: str, what: str, remedy: str) -> AbstractContextManager[None]:
    """Turn whatever a model raises in its dry run into an InputError."""
    fault = f"{name} ({type(model).__name__}) fails on {what} in a dry run"
    return explaining(lambda why: f"{fault}: {why}; {remedy}")
