"""Shift a classifier so that the mean probability of each class is its known share of the rows."""

from __future__ import annotations

import logging
from pathlib import Path

from metakd.cli import run
from metakd.errors import InputError
from metakd.manifests import MANIFEST, read_json, write_json
from metakd.steps import Step

log = logging.getLogger(__name__)
FEW_ROWS = 100


def main(
    model: Path,
    table: Path,
    class_shares: dict[str, float],
    out: Path,
    domain: str = "",
    remake: bool = False,
) -> None:
    """Write the classifier with a shifted last layer; OUT/class_shares.json holds the mean probabilities and the shift.

    For a domain with few labels or none, where a classifier that learned from other domains draws the line between the
    classes elsewhere (experiments/FINDINGS.md). Who knows that about 40 % of a domain's reviews are positive can say
    so; no label is read. A share should be known to about 5 points: one that is 10 points off costs a little.

    Args:
        model: folder of a classifier of one class per row.
        table: rows of the domain, with labels or without: for example its unlabelled rows.
        class_shares: share of each class, e.g. '{negative: 0.6, positive: 0.4}'.
        out: folder of the shifted classifier.
        domain: whose rows are used; all by default.
        remake: make the folder anew if other code made it.
    """
    training = read_json(model / MANIFEST).get("resolved", {})
    settings = {"domain": domain, "class_shares": class_shares}
    step = Step(out, settings, {"model": model, "table": table}, training, remake=remake)
    if step.finished():
        return
    from scipy.special import softmax

    from metakd.evaluation.class_shares import SHARES, read_shares, share_shift
    from metakd.models.last_layer import require_logits, shift_logits
    from metakd.training.inference import load_to_rewrite, predict_logits, save_rewritten

    classifier, accelerator = load_to_rewrite(model)
    names = classifier.labels.names
    if classifier.labels.problem != "single_label":
        raise InputError(f"{model} is a {classifier.labels.problem} model; only one class per row has shares")
    shares = read_shares(class_shares, names)
    rows = classifier.encode_texts(table, domain)
    if len(rows) < FEW_ROWS:
        log.warning("NOTE: %d rows are few to tell by how often a class is predicted", len(rows))
    logits = predict_logits(classifier.model, rows, accelerator)
    before, shift = softmax(logits, axis=1).mean(0), share_shift(logits, shares)
    shift_logits(classifier.model, shift.tolist())
    shifted = predict_logits(classifier.model, rows, accelerator)
    require_logits(shifted, logits + shift, str(model))
    values = {"before": before, "after": softmax(shifted, axis=1).mean(0), "shift": shift}
    with step.workspace() as folder:
        if folder is not None:
            save_rewritten(folder, classifier, model)
            facts = {name: dict(zip(names, numbers.tolist(), strict=True)) for name, numbers in values.items()}
            write_json(folder / SHARES, {**facts, "rows": len(rows), "domain": domain})
    changes = [
        f"{name} {100 * old:.1f} to {100 * new:.1f} %"
        for name, old, new in zip(names, before, values["after"], strict=True)
    ]
    print(f"mean probability over {len(rows)} rows: {', '.join(changes)}; the classifier is {out}")


if __name__ == "__main__":
    run(main)
