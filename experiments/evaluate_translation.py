"""Score translations by BLEU and chrF, and compare them with those of other systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metakd.cli import run
from metakd.errors import InputError
from metakd.fingerprint import code_fingerprint
from metakd.manifests import find_manifest, read_json, write_json
from metakd.ranges import Count, Seed
from metakd.steps import Step


def main(
    translations: Path,
    out: Path,
    against: list[Path] | None = None,
    rows: bool = False,
    samples: Count = 1000,
    seed: Seed = 12345,
    remake: bool = False,
) -> None:
    """Write BLEU and chrF by sacreBLEU with their signatures, and a paired bootstrap against other systems.

    Args:
        translations: table of translate.py with references.
        out: JSON file.
        against: '[A, B]': tables of other systems on the same rows; a paired bootstrap compares this one and the others
            with the first of them.
        rows: also write guid, domain and what BLEU is computed from, but no text, of each row.
        samples: of the bootstrap.
        seed: of the bootstrap.
        remake: make the file anew if other code made it.
    """
    if translations in (against or []):
        raise InputError(f"--against names {translations}, which is what is compared; name other systems")
    others = {f"against {number}": path for number, path in enumerate(against or [], 1)}
    settings = {"samples": samples, "seed": seed, **({"rows": True} if rows else {})}
    step = Step(out, settings, {"translations": translations, **others}, file=True, remake=remake)
    if step.finished():
        return
    from metakd.translation.evaluation import bleu_rows, compare, read_best, scores_by_domain

    system, manifest = read_best(translations), find_manifest(translations)
    made = read_json(manifest).get("resolved", {}) if manifest is not None else {}
    scores = scores_by_domain(system)
    result: dict[str, Any] = {"problem": "translation", "table": str(translations), "code": code_fingerprint()}
    result["model"] = {**scores, **made.get("model", {}), "speed": made.get("speed")}
    if rows:
        result["rows"] = bleu_rows(system)
    if others:
        systems = {str(path): read_best(path) for path in others.values()}
        result["comparison"] = compare(systems | {str(translations): system}, samples, seed)
    with step.workspace() as file:
        if file is not None:
            write_json(file, result)
    for name, found in [*scores["domains"].items()] * (len(scores["domains"]) > 1) + [("all rows", scores)]:
        odd = "".join(f"  {found[kind]} {kind}" for kind in ("empty", "cut") if found[kind])
        ratio = f"length ratio {found['length_ratio']:.3f}"
        print(f"{name}: BLEU {found['bleu']:.2f}  chrF {found['chrf']:.2f}  {ratio}{odd}")
    print(scores["bleu_signature"])
    if others:
        first, *compared = result["comparison"]
        print(f"against {first['system']}, BLEU {first['bleu']:.2f}, by a paired bootstrap:")
        for line in compared:
            print(f"  {line['system']}: BLEU {line['bleu']:.2f}, p {line['p_value']:.4f}")


if __name__ == "__main__":
    run(main)
