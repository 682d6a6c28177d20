"""A soup is the mean of its runs, each of which is a training of its own."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metakd.config import Training
from metakd.data.encoding import EncodedRows, encode
from metakd.data.tables import TRAINING, write_rows
from metakd.training.checkpoints import distinct_tensors
from metakd.training.jobs import DistillationJob
from metakd.training.loop import fit
from metakd.training.soups import BETWEEN_SEEDS, fit_soup
from tests.conftest import DOMAINS, LABELS, make_rows, make_tokenizer
from tests.identities.test_stages import WEIGHTS, make_job

TRAINING_OPTIONS = Training(batch_size=4, seed=5, log_with=[])


@pytest.fixture
def rows(tmp_path: Path) -> EncodedRows:
    write_rows(tmp_path / "rows.tsv", make_rows(12))
    return encode(tmp_path / "rows.tsv", make_tokenizer(), 32, LABELS, DOMAINS, TRAINING)


def weights(job: DistillationJob) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in distinct_tensors(job.objective).items()}


def soup(job: DistillationJob, folder: Path, runs: int) -> dict[str, torch.Tensor]:
    found = fit_soup(runs, job, job.accelerator, 2, 1e-2, TRAINING_OPTIONS, folder, "stage")
    assert [len(progress.losses) for progress in found.runs] == [6] * runs
    return weights(job)


def test_a_soup_is_the_mean_of_its_runs(rows: EncodedRows, tmp_path: Path) -> None:
    alone = []
    for run in range(3):
        job = make_job(rows, WEIGHTS)
        seeded = replace(TRAINING_OPTIONS, seed=5 + BETWEEN_SEEDS * run)
        fit(job, job.accelerator, 2, 1e-2, seeded, tmp_path / f"alone-{run}")
        alone.append(weights(job))
    mixed = soup(make_job(rows, WEIGHTS), tmp_path / "soup", 3)
    for name, tensor in mixed.items():
        values = [run[name] for run in alone]
        torch.testing.assert_close(tensor, torch.stack(values).double().mean(0).to(tensor.dtype))
    assert any((run[name] != alone[0][name]).any() for run in alone[1:] for name in mixed)
    one = soup(make_job(rows, WEIGHTS), tmp_path / "one", 1)
    assert all(torch.equal(one[name], alone[0][name]) for name in one)


def test_a_soup_that_was_killed_goes_on_with_the_run_that_was_cut_off(
    rows: EncodedRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = soup(make_job(rows, WEIGHTS), tmp_path / "whole", 2)
    job = make_job(rows, WEIGHTS)
    calls = iter(range(100))

    def killed(*_: object) -> None:
        if next(calls) == 3:  # in the second epoch of the second run
            raise KeyboardInterrupt

    monkeypatch.setattr(job, "start_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        soup(job, tmp_path / "killed", 2)
    again, epochs = make_job(rows, WEIGHTS), []
    monkeypatch.setattr(again, "start_epoch", lambda *_: epochs.append(math.nan))
    resumed = soup(again, tmp_path / "killed", 2)
    assert len(epochs) <= 2 and all(torch.equal(resumed[name], whole[name]) for name in whole)
