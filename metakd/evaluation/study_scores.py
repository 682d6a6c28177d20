"""Scores with intervals, and comparisons with the reference, of the methods of a study."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metakd.evaluation.metrics import HEADLINE
from metakd.evaluation.report import METRICS
from metakd.evaluation.resampling import Measure, bleu, bootstrap, macro_average, macro_f1, micro_f1, row_mean, spearman
from metakd.evaluation.statistics import Comparison, Estimate, compare, estimate
from metakd.evaluation.study_results import DomainResults, Setting, StudyResults

MEAN = "mean over domains"
MEASURES = {"macro_f1": macro_f1, "micro_f1": micro_f1, "spearman": spearman}


@dataclass(frozen=True)
class Score:
    """A score of a method, as a fraction, with its interval and the score of each seed."""

    estimate: Estimate
    by_seed: list[float]


@dataclass(frozen=True)
class SettingScores:
    """The methods of one setting, on the same rows and seeds.

    Args:
        metric: name of the score.
        domains: those of the reference.
        seeds: those that all compared methods have.
        scores: by domain, `MEAN` first, and method.
        comparisons: of the means over domains with the reference.
        domain_comparisons: of each domain, a family of its own.
        left_out: methods and seeds that lack results.
    """

    metric: str
    domains: list[str]
    seeds: list[int]
    scores: dict[str, dict[str, Score]]
    comparisons: list[Comparison]
    domain_comparisons: list[Comparison]
    left_out: list[str]

    @property
    def place(self) -> str:
        """What a setting is judged by: the mean over domains, or its only domain."""
        return MEAN if len(self.domains) > 1 else self.domains[0]

    @property
    def label(self) -> str:
        """The score with its unit."""
        unit = {"spearman": " x 100", "bleu": ""}.get(self.metric, ", %")
        return METRICS[self.metric] + unit


@dataclass(frozen=True)
class StudyScores:
    """The scores of a study, computed when they are first asked for."""

    results: StudyResults
    computed: dict[Setting, SettingScores] = field(default_factory=dict)

    def of(self, setting: Setting) -> SettingScores:
        if setting not in self.computed:
            self.computed[setting] = score_setting(self.results, setting)
        return self.computed[setting]


def score_setting(results: StudyResults, setting: Setting) -> SettingScores:
    """Scores and comparisons of all methods on the seeds and domains that they have in common."""
    reference = results.reference
    example, domains, seeds, complete, left_out = results.comparable(setting)
    metric = metric_of(example)
    if not complete:
        return SettingScores(metric, domains, seeds, {}, [], [], left_out)
    measures = {
        name: {domain: measure_of(part, metric) for domain, part in by_domain.items()}
        for name, by_domain in complete.items()
    }
    table = bootstrap(measures)
    means = {name: {MEAN: macro_average(by_domain)} for name, by_domain in table.items()}
    tables = [means, table] if len(domains) > 1 else [table]
    bounds = (-1.0, 1.0) if metric == "spearman" else (0.0, 1.0)
    scores: dict[str, dict[str, Score]] = {}
    for one in tables:
        for name, by_domain in one.items():
            for domain, column in by_domain.items():
                scores.setdefault(domain, {})[name] = Score(estimate(column, bounds), column.scores.tolist())
    with_reference = reference in table and len(table) > 1
    comparisons = compare(means, reference) if with_reference else []
    domain_comparisons = compare(table, reference) if with_reference and len(domains) > 1 else []
    return SettingScores(metric, domains, seeds, scores, comparisons, domain_comparisons, left_out)


def metric_of(cell: dict[str, Any]) -> str:
    """The score that a task's results are compared by: the one that its epochs were chosen by."""
    if cell["problem"] == "translation":  # whose epochs may be chosen by the loss
        return "bleu"
    return cell["settings"]["task"].get("select_by") or HEADLINE[cell["problem"]]


def measure_of(part: DomainResults, metric: str) -> Measure:
    """A score of one method in one domain, in the form that is resampled."""
    if metric == "bleu":
        return bleu(np.array([cell["rows"]["bleu"] for cell in part.cells]))
    if metric == "accuracy":
        return row_mean(part.predictions == part.labels)
    return MEASURES[metric](part.predictions, part.labels)
