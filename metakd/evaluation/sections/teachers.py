"""Sections of a report about a teacher's training rows, from what `metakd.training.teacher_analysis` writes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metakd.errors import InputError
from metakd.evaluation.document import Table
from metakd.evaluation.pictures import Histogram, NamedTable, Picture, Points, Section, Series
from metakd.evaluation.sections.predictions import Suspect, Texts, suspicious_rows
from metakd.evaluation.text import shorten

MOST_POINTS = 600  # of a projection
MOST_DOMAIN_POINTS = 250  # of a picture of one domain
MOST_DOMAINS = 12  # that have pictures
EXAMPLES = 3  # rows of the highest and of the lowest weight in a domain
RIGHT, WRONG = "teacher right", "teacher wrong"


@dataclass(frozen=True)
class Analysis:
    """A teacher on its training rows; the columns of `rows` as arrays.

    Args:
        facts: everything but the rows, see `metakd.training.teacher_analysis.analyse_teacher`.
        guids: of the rows.
        domain, label: numbers [n].
        prototype, expertise: weights [n].
        probabilities: [n, C].
        before, after: projections [n, 2].
    """

    facts: dict[str, Any]
    guids: list[str]
    domain: np.ndarray
    label: np.ndarray
    prototype: np.ndarray
    expertise: np.ndarray
    probabilities: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @property
    def basis(self) -> str:
        count, table_rows = len(self.guids), self.facts["table_rows"]
        rows = f"{count} training rows" if count == table_rows else f"{count} of {table_rows} training rows"
        return f"1 teacher (seed {self.facts['seed']}), {rows}"

    @property
    def domains(self) -> list[tuple[str, np.ndarray]]:
        """Names and row numbers of the domains that have rows."""
        pairs = [(name, np.flatnonzero(self.domain == k)) for k, name in enumerate(self.facts["domains"])]
        return [(name, rows) for name, rows in pairs if len(rows)]


def read_analyses(folder: Path) -> list[Analysis]:
    """The analyses in FOLDER/analyses.

    Raises:
        InputError: a file is no analysis.
    """
    return [read_analysis(path) for path in sorted((folder / "analyses").glob("*.json.gz"))]


def read_analysis(path: Path) -> Analysis:
    try:
        facts = json.loads(gzip.decompress(path.read_bytes()))
        rows = facts.pop("rows")
        arrays = {name: np.array(rows[name]) for name in rows if name != "guid"}
        return Analysis(facts, rows["guid"], **arrays)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not an analysis of a teacher: {error!r}; make it again") from None


def weights_section(analysis: Analysis, texts: Texts) -> Section:
    """Histogram of the prototype weights of each domain, and the rows with the highest and lowest ones."""
    edges = np.linspace(0, max(float(analysis.prototype.max()), 1e-6), 21)
    pictures: list[Picture] = []
    rows = []
    for name, numbers in analysis.domains:
        weights = analysis.prototype[numbers]
        counts = np.histogram(weights, edges)[0].tolist()
        basis = f"{len(numbers)} training rows, mean {weights.mean():.3f}"
        pictures.append(
            Histogram(name, basis, "prototype weight t", "rows", edges=edges.tolist(), counts=counts,
                      mean=float(weights.mean()))
        )  # fmt: skip
        order = numbers[np.argsort(-weights, kind="stable")]
        chosen = dict.fromkeys([*order[:EXAMPLES], *order[-EXAMPLES:]])
        rows += [example_row(analysis, name, row, texts) for row in chosen]
    headers = ["domain", "guid", "label", *["text"] * bool(texts), "prototype weight t"]
    about = (
        "The prototype weight t of a row is high where the row is typical of its class in every domain. The line marks "
        f"the mean. {analysis.basis}."
    )
    table = NamedTable("Rows with the highest and lowest weights", Table(headers, rows, len(headers) - 1))
    return Section("Prototype weights", [about], pictures[:MOST_DOMAINS], [table])


def example_row(analysis: Analysis, domain: str, row: int, texts: Texts) -> list[str]:
    guid = analysis.guids[row]
    text = [shorten(texts.get(guid, ""), 300)] if texts else []
    label = analysis.facts["labels"][analysis.label[row]]
    return [domain, shorten(guid, 80), label, *text, f"{analysis.prototype[row]:.3f}"]


def expertise_section(analysis: Analysis) -> Section:
    """The expertise weight of each row against the teacher's error on it, a picture per domain."""
    each = np.arange(len(analysis.label))
    error = 1 - analysis.probabilities[each, analysis.label]
    right = analysis.probabilities.argmax(1) == analysis.label
    pictures: list[Picture] = []
    rows = []
    for name, numbers in analysis.domains:
        sample = thin(numbers, MOST_DOMAIN_POINTS)
        groups = []
        for group, chosen in ((RIGHT, sample[right[sample]]), (WRONG, sample[~right[sample]])):
            groups.append(Series(group, error[chosen].tolist(), analysis.expertise[chosen].tolist()))
        basis = f"{len(sample)} of {len(numbers)} training rows"
        axes = ("error of the teacher, 1 - p(label)", "expertise weight λ")
        pictures.append(Points(name, basis, *axes, series=groups))
        means = [
            f"{analysis.expertise[part].mean():.3f}" if len(part) else ""
            for part in (numbers[right[numbers]], numbers[~right[numbers]])
        ]
        rows.append([name, str(len(numbers)), f"{100 * right[numbers].mean():.1f}", *means])
    about = (
        f"The expertise weight λ says how much a student trusts the teacher on a row: less where the teacher is wrong, "
        f"and where the row is not typical. {analysis.basis}."
    )
    headers = ["domain", "rows", "teacher right, %", "mean λ where right", "mean λ where wrong"]
    table = NamedTable("Mean expertise weights", Table(headers, rows))
    return Section("Expertise weight and the teacher's error", [about], pictures[:MOST_DOMAINS], [table],
                   legend=[RIGHT, WRONG])  # fmt: skip


def features_section(analysis: Analysis) -> Section:
    """Two-dimensional projections of the rows before and after training with the domain loss."""
    feature = {"h": "transferable feature h", "mean": "mean of the token states"}[analysis.facts["feature"]]
    titles = {"before": "Before: E(x) of the pretrained encoder", "after": f"After: {feature} of the teacher"}
    pictures: list[Picture] = []
    for name, title in titles.items():
        points = getattr(analysis, name)
        groups = []
        for domain, numbers in analysis.domains:
            sample = thin(numbers, MOST_POINTS // len(analysis.domains))
            groups.append(Series(domain, points[sample, 0].tolist(), points[sample, 1].tolist()))
        shown = sum(len(group.x) for group in groups)
        pictures.append(Points(title, f"{shown} points; {analysis.basis}", series=groups, ticks=False))
    about = [
        "The two directions in which the features differ most (principal components). The domain loss should make "
        "domains hard to tell apart afterwards."
    ]
    before, after = analysis.facts["told"]["before"], analysis.facts["told"]["after"]
    if before is not None and after is not None:
        about.append(
            f"In all dimensions, the nearest domain mean tells the domain of {100 * before:.0f} % of the rows before "
            f"and of {100 * after:.0f} % after (cross-validated; {100 / len(analysis.domains):.0f} % would be chance)."
            + (" The feature h has the domain's own embedding added." if analysis.facts["feature"] == "h" else "")
        )
    legend = [domain for domain, _ in analysis.domains]
    return Section("Domain features before and after the domain loss", about, pictures, legend=legend)


def teacher_sections(analyses: Sequence[Analysis], texts: Texts) -> list[Section]:
    """The sections of the first analysis; a note names the others, which are only searched for label suspects."""
    if not analyses:
        return []
    analysis = analyses[0]
    sections = [weights_section(analysis, texts), expertise_section(analysis), features_section(analysis)]
    if len(analyses) > 1:
        note = f"Shown for teacher {analysis.facts['teacher']}; {len(analyses) - 1} more teachers were analysed."
        for section in sections:
            section.texts.append(note)
    return sections


def training_suspects(analyses: Sequence[Analysis]) -> list[Suspect]:
    """Training rows whose label the teachers contradict, each row once."""
    by_row: dict[tuple[str, str], list[tuple[Analysis, int]]] = {}
    for analysis in analyses:
        for row, guid in enumerate(analysis.guids):
            by_row.setdefault((analysis.facts["table"], guid), []).append((analysis, row))
    suspects = []
    for (_, guid), places in by_row.items():
        mean = np.mean([analysis.probabilities[row] for analysis, row in places], axis=0)
        analysis, row = places[0]
        label, names = int(analysis.label[row]), analysis.facts["labels"]
        if len(suspicious_rows(mean[None], np.array([label]))):
            domain = analysis.facts["domains"][analysis.domain[row]]
            said, probability = names[int(mean.argmax())], float(mean.max())
            table = analysis.facts["table"]
            suspects.append(Suspect(guid, table, True, domain, names[label], said, probability, len(places)))
    return suspects


def thin(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, at random but always the same."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
