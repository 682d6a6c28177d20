"""Scores of translations by sacreBLEU, and a paired bootstrap between two systems."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest, Result

from metakd.errors import InputError
from metakd.translation.targets import hypotheses


@dataclass(frozen=True)
class Translations:
    """The best translations of a table's rows, and its references, in the order of the table.

    Args:
        ended: whether a translation ends before the longest length; true where that is not known.
    """

    guids: list[str]
    domains: list[str]
    texts: list[str]
    references: list[str]
    ended: list[bool]

    def of_domain(self, domain: str) -> Translations:
        """The rows of one domain."""
        columns = zip(self.guids, self.domains, self.texts, self.references, self.ended, strict=True)
        return Translations(*map(list, zip(*(row for row in columns if row[1] == domain), strict=True)))


def read_best(path: Path) -> Translations:
    """The best hypothesis of each row of a table of translate.py.

    Raises:
        InputError: a row has no reference, or its hypotheses do not stand together, the best first.
    """
    best, seen = Translations([], [], [], [], []), set()
    for row in hypotheses(path):
        first = row.get("rank", "1") == "1"
        if not first and best.guids and best.guids[-1] == row["guid"]:
            continue
        if not first or row["guid"] in seen:
            raise InputError(f"{path}: {row['guid']!r} has no hypothesis of rank 1 before the others, or more than one")
        seen.add(row["guid"])
        if not row.get("reference", "").strip():
            raise InputError(f"{path}: row {row['guid']!r} has no reference to compare with")
        best.guids.append(row["guid"])
        best.domains.append(row.get("domain", "").strip())
        best.texts.append(row["hypothesis"])
        best.references.append(row["reference"])
        best.ended.append(row.get("ended") != "no")
    if not best.guids:
        raise InputError(f"{path} has no translations")
    return best


def scores(translations: Translations) -> dict[str, Any]:
    """BLEU and chrF with sacreBLEU's signatures, and how long the translations are beside their references."""
    texts, references = translations.texts, [translations.references]
    bleu, chrf = BLEU(), CHRF()
    bleu_score, chrf_score = bleu.corpus_score(texts, references), chrf.corpus_score(texts, references)
    return {
        "rows": len(texts),
        "bleu": bleu_score.score,
        "bleu_signature": str(bleu.get_signature()),
        "chrf": chrf_score.score,
        "chrf_signature": str(chrf.get_signature()),
        "length_ratio": bleu_score.sys_len / max(1, bleu_score.ref_len),
        "empty": sum(not text for text in texts),
        "cut": translations.ended.count(False),
    }


def scores_by_domain(translations: Translations) -> dict[str, Any]:
    """Scores of all rows and, under "domains", of the rows of each domain (corpus)."""
    domains = sorted(set(translations.domains))
    return {**scores(translations), "domains": {name: scores(translations.of_domain(name)) for name in domains}}


def bleu_rows(translations: Translations) -> dict[str, list[Any]]:
    """What BLEU is computed from, row by row, without any text.

    Returns:
        guid; domain; label, a hash of the reference; bleu, ten counts: tokens of the translation and of the reference,
        then of each length 1 to 4 the n-grams of the translation that the reference has, and all of them.
    """
    bleu, counts = BLEU(), []
    for text, reference in zip(translations.texts, translations.references, strict=True):
        score = bleu.corpus_score([text], [[reference]])
        counts.append([score.sys_len, score.ref_len, *score.counts, *score.totals])
    hashes = [hashlib.blake2b(text.encode(), digest_size=6).hexdigest() for text in translations.references]
    return {"guid": translations.guids, "domain": translations.domains, "label": hashes, "bleu": counts}


def compare(systems: dict[str, Translations], samples: int, seed: int) -> list[dict[str, Any]]:
    """BLEU of each system, with the p of sacreBLEU's paired bootstrap against the first one.

    Args:
        samples: of the bootstrap.

    Raises:
        InputError: a system translated other rows than the first.
    """
    first = next(iter(systems.values()))
    for name, other in systems.items():
        if (other.guids, other.references) != (first.guids, first.references):
            raise InputError(f"{name} is of other rows, or of other references; translate the same table")
    named: list[tuple[str, Sequence[str]]] = [(name, one.texts) for name, one in systems.items()]
    os.environ["SACREBLEU_SEED"] = str(seed)
    test = PairedTest(named, {"BLEU": BLEU(references=[first.references])}, None, "bs", n_samples=samples)
    _, results = test()
    lines = []
    for (name, _), result in zip(named, results["BLEU"], strict=True):
        assert isinstance(result, Result)
        values = {"bleu": result.score, "mean": result.mean, "ci95_half_width": result.ci,
                  "p_value": result.p_value}  # fmt: skip
        lines.append({"system": name, **values})
    return lines
