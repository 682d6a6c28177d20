"""A classifier with only the tokens of a table: smaller, and the same there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from metakd.errors import InputError
from metakd.models.vocabulary import ids_to_keep, trim_model, trim_tokenizer
from metakd.training.inference import LoadedClassifier, predict_logits


def trim(classifier: LoadedClassifier, table: Path, accelerator: Accelerator) -> LoadedClassifier:
    """The classifier, whose model is changed in place, with only the tokens of a table's texts.

    Raises:
        InputError: its vocabulary cannot be trimmed, or the table's rows would get other logits.
    """
    rows = classifier.encode_texts(table)
    before = predict_logits(classifier.model, rows, accelerator)
    ids = ids_to_keep(classifier.tokenizer, rows.used_ids())
    trimmed = replace(classifier, tokenizer=trim_tokenizer(classifier.tokenizer, ids))
    trim_model(classifier.model, ids)
    after = predict_logits(classifier.model, trimmed.encode_texts(table), accelerator)
    if not np.allclose(before, after, rtol=1e-4, atol=1e-4):
        raise InputError(
            f"{classifier.model.name_or_path} cannot be trimmed: without the other tokens, its tokenizer splits "
            f"{table} into different ones"
        )
    return trimmed
