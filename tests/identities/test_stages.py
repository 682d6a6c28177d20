"""What must hold of a stage's weights and denominators, whatever the numbers are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from metakd.config import Training
from metakd.data.encoding import EncodedRows, encode
from metakd.data.labels import Labels
from metakd.data.tables import TRAINING, write_rows
from metakd.errors import InputError
from metakd.methods import Schedule, Stage, Term
from metakd.models.views import Need
from metakd.objectives.distillation import DistillationObjective
from metakd.objectives.terms import bind
from metakd.training.loop import train_step
from metakd.training.problems import DistillationProblem, batch_means
from metakd.training.runtime import start
from metakd.training.teacher_outputs import TeacherViews
from tests.conftest import make_rows, make_tokenizer, tiny_config

LABELS = Labels(("negative", "positive"))
SOFT, HARD = Term("logits", "kl", temperature=2.0), Term("label", scale=0.5)


@pytest.fixture
def rows(tmp_path: Path) -> EncodedRows:
    """12 rows, every third without label."""
    found = [{**row, "label": "" if i % 3 == 0 else row["label"]} for i, row in enumerate(make_rows(12))]
    write_rows(tmp_path / "rows.tsv", found)
    return encode(tmp_path / "rows.tsv", make_tokenizer(), 32, LABELS, ["books", "films", "phones"], TRAINING)


def problem(rows: EncodedRows, weights: np.ndarray, **settings: object) -> DistillationProblem:
    torch.manual_seed(0)
    student = AutoModelForSequenceClassification.from_config(tiny_config(layers=2))
    stage = Stage("s", [SOFT, HARD], 1, 1e-3, select="last", **settings)  # type: ignore[arg-type]
    objective = DistillationObjective(student, bind(stage.terms, None, student.config, "single_label"), None, None)
    logits = np.random.default_rng(2).normal(size=(12, 2)).astype(np.float32)
    views = TeacherViews(logits, None, Need())
    return DistillationProblem(objective, stage, rows, None, weights, views, LABELS, start("fp32"))


def step(made: DistillationProblem, chosen: np.ndarray) -> tuple[dict[str, float], torch.Tensor]:
    """Each term's loss over a step, and the gradient of the classifier."""
    found: list[torch.Tensor] = []

    class Keep(torch.optim.SGD):
        def step(self, closure=None):  # type: ignore[no-untyped-def]
            found.append(made.student.classifier.weight.grad.clone())

    training = Training(max_grad_norm=1e9)
    optimizer = Keep(made.objective.parameters(), lr=0.0)
    return train_step(made, made.objective, optimizer, made.accelerator, chosen, training, 0), found[0]


EVERY = np.arange(12)
WEIGHTS = np.linspace(0.2, 1.3, 12)


def test_normalised_weights_have_no_size_and_others_do(rows: EncodedRows) -> None:
    found = {
        (normalised, factor): step(
            problem(rows, factor * WEIGHTS, row_weight="prototype", normalised=normalised), EVERY
        )
        for normalised in (True, False)
        for factor in (1.0, 3.0)
    }
    torch.testing.assert_close(found[True, 3.0][1], found[True, 1.0][1])
    torch.testing.assert_close(found[False, 3.0][1], 3 * found[False, 1.0][1])
    torch.testing.assert_close(found[False, 1.0][0]["logits"], found[True, 1.0][0]["logits"] * WEIGHTS.mean())


@pytest.mark.parametrize("normalised", [True, False])
def test_the_label_term_is_a_mean_over_labelled_rows_however_steps_fall(rows: EncodedRows, normalised: bool) -> None:
    """A step with one labelled row must not give it the weight of a whole batch."""
    weights = np.where(EVERY < 6, 0.5, 1.5)
    made = problem(rows, weights, row_weight="prototype", normalised=normalised)
    labelled = np.flatnonzero(rows.labelled)
    assert len(labelled) == 8
    batch = rows.batch(EVERY)
    logits = made.student(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]).logits
    found = torch.nn.functional.cross_entropy(logits, batch["label"], reduction="none").detach().numpy()
    norm = weights if normalised else np.ones(12)
    wanted = (weights * found)[labelled].sum() / norm[labelled].sum()
    assert step(made, EVERY)[0]["label"] == pytest.approx(wanted, rel=1e-5)
    steps = [np.array([0, 3, 6, 1]), np.array([2, 4, 5, 7]), np.array([8, 9, 10, 11])]  # 1, 4 and 3 labelled rows
    parts = sum(step(made, chosen)[0]["label"] * norm[chosen].sum() for chosen in steps) / norm.sum()
    assert parts == pytest.approx(wanted, rel=1e-5)


def test_the_released_weights_move_whole_batches(rows: EncodedRows) -> None:
    """Mean weight times mean loss of each batch, as if every loss had been one number before the weights met it."""
    batches = [EVERY[:5], EVERY[5:]]
    released = problem(rows, WEIGHTS, row_weight="expertise_released", normalised=False)
    released.start_epoch(batches, np.random.default_rng(0))
    for chosen in batches:
        plain, gradient = step(problem(rows, np.ones(12)), chosen)
        found, moved = step(released, chosen)
        assert found["logits"] == pytest.approx(WEIGHTS[chosen].mean() * plain["logits"], rel=1e-5)
        torch.testing.assert_close(moved, gradient * WEIGHTS[chosen].mean(), rtol=1e-4, atol=1e-7)
    assert batch_means(WEIGHTS, batches)[[0, 4]].tolist() == [WEIGHTS[:5].mean()] * 2
    with pytest.raises(InputError, match="set normalised: false"):
        Stage("s", [SOFT], 1, 1e-3, row_weight="expertise_released")


def test_a_temperature_may_change_in_the_course_of_a_stage(rows: EncodedRows) -> None:
    term = Term("logits", "kl", temperature=Schedule(4.0, 1.0))
    assert [term.temperature_at(share) for share in (0.0, 0.5, 1.0)] == [4.0, 2.5, 1.0]
    made = problem(rows, np.ones(12))
    made.terms[0].term.temperature, made.share = Schedule(4.0, 1.0), 0.5
    fixed = problem(rows, np.ones(12))
    fixed.terms[0].term.temperature = 2.5
    for one, other in zip(step(made, EVERY), step(fixed, EVERY), strict=True):
        torch.testing.assert_close(one, other)
