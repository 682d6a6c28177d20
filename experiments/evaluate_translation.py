"""Score translations by BLEU and chrF, and compare them with those of other systems."""

from __future__ import annotations

from pathlib import Path

from metakd.cli import run
from metakd.manifests import write_json
from metakd.ranges import Count, Seed
from metakd.steps import Step


def main(
    translations: Path,
    out: Path,
    against: list[Path] | None = None,
    samples: Count = 1000,
    seed: Seed = 12345,
    remake: bool = False,
) -> None:
    """Write BLEU and chrF by sacreBLEU with their signatures, and a paired bootstrap against other systems.

    Args:
        translations: table of translate.py with references.
        out: JSON file.
        against: tables of other systems on the same rows; the paired bootstrap compares each system with the first.
        samples: of the bootstrap.
        seed: of the bootstrap.
        remake: make the file anew if other code made it.
    """
    others = {f"against {number}": path for number, path in enumerate(against or [], 1)}
    step = Step(out, {"samples": samples, "seed": seed}, {"translations": translations, **others}, file=True,
                remake=remake)  # fmt: skip
    if step.finished():
        return
    from metakd.translation.evaluation import compare, read_best, scores

    system = read_best(translations)
    result = {"translations": str(translations), **scores(system)}
    if others:
        result["comparison"] = compare(system, {str(p): read_best(p) for p in others.values()}, samples, seed)
    with step.workspace() as file:
        if file is not None:
            write_json(file, result)
    print(f"BLEU {result['bleu']:.2f}  chrF {result['chrf']:.2f}  length ratio {result['length_ratio']:.3f}")
    print(result["bleu_signature"])
    for line in result.get("comparison", []):
        p = "" if line["p_value"] is None else f"  p {line['p_value']:.4f}"
        print(f"  {line['system']}: {line['bleu']:.2f}{p}")


if __name__ == "__main__":
    run(main)
