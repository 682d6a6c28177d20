"""Write the model card of a classifier: what it is, how it was made, what was measured, how it is used."""

from __future__ import annotations

from pathlib import Path

from metakd.cli import run
from metakd.errors import InputError
from metakd.manifests import changed_afterwards, read_json
from metakd.paths import kept_place


def main(
    model: Path,
    evaluations: list[Path] = [],  # noqa: B006
    exported: Path | None = None,
    text: str = "Not bad at all.",
    out: Path | None = None,
) -> None:
    """Write MODEL/README.md with Hugging Face metadata, from what training and evaluation have left.

    Nothing in it is typed by hand: run it again after a new evaluation. Add what only people know, e.g. a licence, to
    the file that you publish; a file that was there before is kept beside the new one.

    Args:
        model: folder of a classifier that distill.py, train_teacher.py, calibrate.py or trim_vocabulary.py made.
        evaluations: JSON files that evaluate.py wrote of it, as a list '[a.json, b.json]', usually one for each domain.
        exported: folder that export.py wrote from it.
        text: example in the card.
        out: file; by default README.md in the model's folder.
    """
    from metakd.evaluation.model_card import model_card
    from metakd.evaluation.report import is_evaluation

    config = read_json(model / "config.json")
    if not config.get("id2label"):
        raise InputError(f"{model} holds no classifier; name the folder of one")
    for path in evaluations:
        if not is_evaluation(read_json(path)):
            raise InputError(f"{path} is no evaluation; evaluate.py writes one")
    for made in filter(None, [model, exported]):
        if change := changed_afterwards(made, verify=True):
            raise InputError(f"{made} was changed after it was finished: {change}; make it again")
    card, out = model_card(model, config, evaluations, exported, text), out or model / "README.md"
    if out.exists() and out.read_bytes() != card.encode():
        kept = kept_place(out)
        out.rename(kept)
        print(f"{out} was there before, and is kept as {kept}")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(card, "utf-8")
    print(f"wrote {out}")


if __name__ == "__main__":
    run(main)
