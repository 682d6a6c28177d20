"""Simulated studies: verdicts are rarely false, and found is what a study says that it can find."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import norm

from metakd.evaluation.resampling import SeedScores, bootstrap, macro_average, row_mean
from metakd.evaluation.statistics import compare, estimate

STUDIES = 500


@dataclass(frozen=True)
class Simulation:
    """A study of students whose true accuracy is 80 %.

    A row is right where a sum of normal deviates exceeds a threshold. The deviates belong to the row, the row and the
    method, the method's seed, its seed in a domain, and the single prediction.

    Args:
        gain: true difference of the first method from the reference, the last.
        seed, domain_seed: deviation of the seeds' effect on all domains, and on each; 0.06 moves accuracy by 1.7 %.
        reference_seeds: how much more than the others the reference varies with the seed.
        controls: number of methods, the first ones, without randomness.
    """

    seed: float = 0.0
    domain_seed: float = 0.0
    seeds: int = 3
    gain: float = 0.0
    reference_seeds: float = 1.0
    controls: int = 0
    methods: int = 4
    domains: int = 2
    rows: int = 100

    def draw(self, generator: np.random.Generator) -> dict[str, dict[str, SeedScores]]:
        """Scores by method and domain."""

        def normal(deviation: float, *shape: int) -> np.ndarray:
            return deviation * generator.standard_normal(shape)

        factors = np.ones(self.methods)
        factors[-1], factors[: self.controls] = self.reference_seeds, 0.0
        totals = np.sqrt(0.6**2 + 0.35**2 + 0.35**2 + factors**2 * (self.seed**2 + self.domain_seed**2))
        thresholds = -totals * norm.ppf(0.8 + self.gain * np.eye(self.methods)[0])
        sizes = (self.methods, self.domains, self.seeds, self.rows)
        single = normal(0.35, *sizes)
        single[: self.controls] = single[: self.controls, :, :1]
        row_effects = normal(0.6, 1, self.domains, 1, self.rows) + normal(0.35, *sizes[:2], 1, self.rows)
        seed_effects = normal(self.seed, self.methods, 1, self.seeds, 1) + normal(self.domain_seed, *sizes[:3], 1)
        each_method = (slice(None), None, None, None)
        right = row_effects + factors[each_method] * seed_effects + single > thresholds[each_method]
        measures = {
            f"method {m}": {f"domain {d}": row_mean(right[m, d]) for d in range(self.domains)}
            for m in range(self.methods)
        }
        return bootstrap(measures, resamples=200, seed=int(generator.integers(2**31)))

    @property
    def reference(self) -> str:
        return f"method {self.methods - 1}"


def averages(table: dict[str, dict[str, SeedScores]]) -> dict[str, dict[str, SeedScores]]:
    """A table of one column, the average over domains."""
    return {name: {"mean": macro_average(by_domain)} for name, by_domain in table.items()}


@dataclass(frozen=True)
class Outcome:
    """What simulated studies say.

    Args:
        false_verdicts: rate of studies with any verdict in the table of averages.
        false_by_domain: the same in the table of all domains.
        misses: rate of intervals of the reference's average without the true accuracy.
        found: rate of studies in which the first method's average is BETTER.
        smallest_difference: of the first method's average, median over studies.
    """

    false_verdicts: float
    false_by_domain: float
    misses: float
    found: float
    smallest_difference: float


@functools.cache
def simulate(simulation: Simulation) -> Outcome:
    generator = np.random.default_rng(1)
    rates, smallest = [], []
    for _ in range(STUDIES):
        table = simulation.draw(generator)
        means = averages(table)
        tables = [compare(each, simulation.reference) for each in (means, table)]
        told_apart = [any(comparison.verdict != "NOT TOLD APART" for comparison in each) for each in tables]
        interval = estimate(means[simulation.reference]["mean"])
        rates.append([*told_apart, not interval.low <= 0.8 <= interval.high, tables[0][0].verdict == "BETTER"])
        smallest.append(tables[0][0].smallest_difference)
    return Outcome(*np.mean(rates, axis=0), float(np.median(smallest)))


NO_DIFFERENCE = {
    "seeds do not matter": Simulation(),
    "seeds matter in all domains alike": Simulation(seed=0.1),
    "seeds matter more than rows": Simulation(seed=0.2, domain_seed=0.1),
    "two seeds": Simulation(seed=0.05, domain_seed=0.05, seeds=2),
    "an unsteady reference": Simulation(seed=0.05, reference_seeds=3.0),
    "a control without randomness": Simulation(seed=0.05, domain_seed=0.05, controls=1),
}
ONE_COMPARISON = Simulation(seed=0.05, methods=2)


@pytest.mark.parametrize("name", NO_DIFFERENCE)
def test_at_most_5_percent_of_studies_without_difference_have_a_verdict(name: str) -> None:
    outcome = simulate(NO_DIFFERENCE[name])
    assert outcome.false_verdicts <= 0.05 and outcome.false_by_domain <= 0.05
    assert outcome.misses <= 0.07  # of 500 intervals: 0.05 and two standard errors


@pytest.mark.parametrize(
    "study", [NO_DIFFERENCE["seeds do not matter"], NO_DIFFERENCE["seeds matter in all domains alike"], ONE_COMPARISON]
)
def test_studies_find_the_difference_that_they_say_they_can_see(study: Simulation) -> None:
    """They promise 80 %, and keep a little more."""
    stated = simulate(study).smallest_difference
    assert 0.8 <= simulate(replace(study, gain=stated)).found < 0.93
