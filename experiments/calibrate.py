"""Calibrate a classifier on dev rows: probabilities that mean something, and a confidence below which it abstains."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from metakd.cli import run
from metakd.errors import InputError, name_list
from metakd.manifests import MANIFEST, read_json, write_json
from metakd.ranges import Range
from metakd.steps import Step

if TYPE_CHECKING:
    from metakd.evaluation.calibration import Calibration

log = logging.getLogger(__name__)
FEW_ROWS = 100


def main(
    model: Path,
    table: Path,
    out: Path,
    domain: str = "",
    target: Annotated[float, Range(0, 1, above=True, below=True)] = 0.9,
    teacher: Path | None = None,
    remake: bool = False,
) -> None:
    """Write the classifier with calibrated probabilities, and OUT/calibration.json with the threshold for a target.

    OUT/calibration.html shows how often it is right by the share of rows that it predicts.

    One number, the temperature, is fitted to the labels of dev rows (Guo et al. 2017) and put into the last layer, so
    predictions stay as they are and every user of the folder gets the new probabilities. The threshold is the lowest
    confidence from which on at least the target's share of future predictions is right, with 95 % confidence; it is
    used by predict.py --abstain_below. Few rows give a wide bound, and then there may be no threshold.

    Args:
        model: folder of a classifier of one class per row.
        table: labelled rows that it was not trained on: the dev table.
        out: folder of the calibrated classifier.
        domain: whose rows are used; all by default.
        target: share of the predictions that must be right, e.g. 0.9.
        teacher: folder of a classifier; its predictions are then what is right for the threshold, not the labels.
        remake: make the folder anew if other code made it.
    """
    training = read_json(model / MANIFEST).get("resolved", {})
    inputs: dict[str, str | Path] = {"model": model, "table": table, **({"teacher": teacher} if teacher else {})}
    step = Step(out, {"domain": domain, "target": target}, inputs, training, remake=remake)
    if step.finished():
        return
    from metakd.data.tables import domain_names
    from metakd.evaluation.calibration import CALIBRATION, calibrate
    from metakd.evaluation.calibration_page import calibration_report
    from metakd.evaluation.html import to_html
    from metakd.models.classifier import label_order
    from metakd.models.last_layer import divide_logits, require_logits
    from metakd.training.inference import load_to_rewrite, load_trained_classifier, predict_logits, save_rewritten

    domains = domain_names(table, domain)
    classifier, accelerator = load_to_rewrite(model)
    labels = classifier.labels
    if labels.problem != "single_label":
        raise InputError(f"{model} is a {labels.problem} model; only probabilities of one class per row are calibrated")
    rows = classifier.encode(table, domains, domain)
    logits, right = predict_logits(classifier.model, rows, accelerator), rows.labels
    if teacher is not None:
        other = load_trained_classifier(teacher, None, accelerator, "off").answering(labels)
        order = label_order(other.labels.names, labels, str(teacher))
        right = predict_logits(other.model, other.encode(table, domains, domain), accelerator)[:, order].argmax(1)
    missing = [name for number, name in enumerate(labels.names) if not (rows.labels == number).any()]
    if missing or len(rows) < FEW_ROWS:
        log.warning(
            "NOTE: %d rows%s are few to calibrate on; the result may not hold for others", len(rows),
            f", none of class {name_list(missing)}," if missing else "",
        )  # fmt: skip
    calibration = calibrate(logits, rows.labels, right, labels.names, target)
    divide_logits(classifier.model, calibration.temperature)
    divided = predict_logits(classifier.model, rows, accelerator)
    require_logits(divided, logits / calibration.temperature, str(model))
    with step.workspace() as folder:
        if folder is not None:
            save_rewritten(folder, classifier, model)
            right_is = "the label" if teacher is None else f"the class that {teacher} predicts"
            write_json(folder / CALIBRATION, {**asdict(calibration), "domain": domain, "right_is": right_is})
            report = calibration_report(calibration, out.name, lines_of(calibration, Path(out.name)))
            (folder / "calibration.html").write_text(to_html(report), "utf-8")
    print("\n".join(lines_of(calibration, out)))


def lines_of(calibration: Calibration, out: Path) -> list[str]:
    """The result in words."""
    lines = [
        f"{when} calibration: expected calibration error {errors['ece']:.3f}, Brier score {errors['brier']:.3f}"
        for when, errors in calibration.errors.items()
    ]
    lines.append(f"temperature {calibration.temperature:.3f}, from {calibration.rows} rows; the classifier is {out}")
    target, chosen = f"{100 * calibration.target:g} %", calibration.threshold
    if chosen is None:
        best = max(calibration.curve, key=lambda threshold: threshold.lower_bound)
        return [
            *lines, f"no threshold reaches {target} right: the best lower bound is {100 * best.lower_bound:.1f} %, of "
            f"{best.rows} rows of which {100 * best.right:.1f} % are right; use more rows, or a lower --target",
        ]  # fmt: skip
    share, right, bound = (f"{100 * value:.1f} %" for value in (chosen.coverage, chosen.right, chosen.lower_bound))
    use = f"predict.py --model {out} --abstain_below {chosen.confidence:.6f}"
    bounds = f"{right} of these are right here, and at least {bound} in future rows (95 % confidence)"
    return [*lines, f"{use} predicts {share} of such rows; {bounds}"]


if __name__ == "__main__":
    run(main)
