"""Sections of a study's report that need each row's prediction: reliability, confusion, label suspects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metakd.evaluation.document import Table
from metakd.evaluation.pictures import Curves, Matrix, NamedTable, Picture, Section, Series
from metakd.evaluation.study_results import ByDomain, Setting, StudyResults
from metakd.evaluation.text import shorten

BINS = 10
FEWEST = 10  # predictions in a bin that is shown
SURE = 0.9  # probability from which a teacher is called sure
MOST_SUSPECTS = 40
MOST_CLASSES = 12  # of a confusion matrix
MOST_MATRICES = 6  # of a task

Texts = Mapping[str, str]  # by guid


@dataclass(frozen=True)
class Pooled:
    """Predictions of all seeds and domains, which may have classes of their own.

    Args:
        classes: of all domains.
        labels, predicted: class numbers [n].
        confidence: probability of the predicted class [n].
    """

    classes: list[str]
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray


def pooled(by_domain: ByDomain) -> Pooled:
    """The predictions of all seeds and domains."""
    classes = list(dict.fromkeys(name for part in by_domain.values() for name in part.cells[0]["labels"]))
    columns = []
    for part in by_domain.values():
        numbers = np.array([classes.index(name) for name in part.cells[0]["labels"]])
        probabilities = part.probabilities.reshape(-1, len(numbers))
        labels = np.tile(part.labels, len(part.seeds))
        columns.append((numbers[labels], numbers[probabilities.argmax(1)], probabilities.max(1)))
    return Pooled(classes, *map(np.concatenate, zip(*columns, strict=True)))


def basis_of(by_domain: ByDomain) -> str:
    """How many seeds, domains and rows results stand on."""
    seeds = max(len(part.seeds) for part in by_domain.values())
    rows = sum(len(part.labels) for part in by_domain.values())
    domains = f" in {len(by_domain)} domains" if len(by_domain) > 1 else ""
    return f"{seeds} seed{'s' if seeds > 1 else ''}, {rows} test rows{domains}"


def single_label_settings(results: StudyResults) -> list[Setting]:
    """The main settings of the tasks that have one class per row."""
    problems = {cell["cell"]["task"]: cell["problem"] for cell in results.cells}
    return [setting for setting in results.main_settings if problems[setting.task] == "single_label"]


def reliability_section(results: StudyResults) -> list[Section]:
    """How often predictions of a confidence are right: a line per method, a picture per task."""
    pictures: list[Picture] = []
    rows = []
    for setting in single_label_settings(results):
        lines = []
        selected = results.select(setting)
        for name, by_domain in selected.items():
            found = pooled(by_domain)
            confidence, right = found.confidence, found.predicted == found.labels
            x, y = reliability(confidence, right)
            lines.append(Series(name, x, y))
            scores = {
                kind: np.mean([score for part in by_domain.values() for score in part.scores(kind)] or [np.nan])
                for kind in ("ece", "brier")
            }
            rows.append([
                setting.task, name, f"{100 * confidence.mean():.1f}", f"{100 * right.mean():.1f}",
                *(f"{scores[kind]:.3f}" for kind in ("ece", "brier")),
            ])  # fmt: skip
        basis = basis_of(selected[results.reference])
        labels_of_axes = ("confidence of the prediction", "fraction that is right")
        pictures.append(
            Curves(results.title(setting, "all domains together"), basis, *labels_of_axes, series=lines, diagonal=True)
        )
    if not pictures:
        return []
    texts = [
        "A model whose line is below the dashed one is surer than it is right. Each marker stands for the predictions "
        f"of one tenth of the confidences, at least {FEWEST} of them."
    ]
    headers = ["task", "method", "mean confidence, %", "right, %", "expected calibration error", "Brier score"]
    table = NamedTable("Calibration errors, means over domains and seeds", results.table(headers, rows, 2))
    return [Section("Reliability of the probabilities", texts, pictures, [table], legend=results.series)]


def reliability(confidence: np.ndarray, right: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean confidence and fraction right of each tenth of the confidences that has enough predictions."""
    bins = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    filled = [number for number in range(BINS) if (bins == number).sum() >= FEWEST]
    return (
        [float(confidence[bins == number].mean()) for number in filled],
        [float(right[bins == number].mean()) for number in filled],
    )


def confusion_section(results: StudyResults) -> list[Section]:
    """Which classes are taken for which: counts over all domains and seeds, a picture per method."""
    pictures: list[Picture] = []
    rows = []
    shown = [name for name in results.series if results.kind(name) != "control"][:MOST_MATRICES]
    for setting in single_label_settings(results):
        for name, by_domain in results.select(setting).items():
            found = pooled(by_domain)
            classes = found.classes
            counts = np.zeros((len(classes), len(classes)), dtype=int)
            np.add.at(counts, (found.labels, found.predicted), 1)
            if len(classes) <= MOST_CLASSES and name in shown:
                title = results.title(setting, name)
                pictures.append(
                    Matrix(title, basis_of(by_domain), "predicted class", rows=classes, columns=classes,
                           counts=counts.tolist())
                )  # fmt: skip
            for number, label in enumerate(classes):
                right, of_class, taken = counts[number, number], counts[number].sum(), counts[:, number].sum()
                rows.append([
                    setting.task, name, label, most_confused(counts[number], number, classes), str(of_class),
                    f"{100 * right / max(of_class, 1):.1f}", f"{100 * right / max(taken, 1):.1f}",
                ])  # fmt: skip
    if not rows:
        return []
    headers = ["task", "method", "class", "most often taken for", "predictions", "recall, %", "precision, %"]
    texts = [
        "A row of a picture is a class, a column the prediction. A number counts test rows, each once per seed. The "
        "darker, the larger the share of the class."
    ]
    table = NamedTable("Recall and precision of each class", results.table(headers, rows, 4))
    return [Section("Confusion of classes", texts, pictures, [table])]


def most_confused(counts: np.ndarray, number: int, classes: Sequence[str]) -> str:
    """The wrong class that a class is taken for most often, with the count."""
    wrong = counts.copy()
    wrong[number] = 0
    return f"{classes[int(wrong.argmax())]} ({wrong.max()})" if wrong.any() else ""


@dataclass(frozen=True)
class Suspect:
    """A row whose label a sure teacher contradicts.

    Args:
        table: that the row is in.
        trained_on: whether the teacher was trained on the row.
        probability: of the class that the teachers say, the mean over `teachers` of them.
    """

    guid: str
    table: str
    trained_on: bool
    domain: str
    label: str
    said: str
    probability: float
    teachers: int


def test_suspects(results: StudyResults) -> list[Suspect]:
    """Test rows whose label the reference's teachers contradict, the mean over seeds being sure."""
    suspects = []
    for setting in single_label_settings(results):
        for domain, part in results.select(setting).get(results.reference, {}).items():
            teachers = [cell["teacher_probabilities"] for cell in part.cells if cell["teacher_probabilities"]]
            if not teachers:
                continue
            mean, classes = np.mean(teachers, axis=0), part.cells[0]["labels"]
            for row in suspicious_rows(mean, part.labels):
                first, said = part.cells[0], classes[mean[row].argmax()]
                suspects.append(
                    Suspect(first["rows"]["guid"][row], first["settings"]["task"]["test"], False, domain,
                            classes[part.labels[row]], said, float(mean[row].max()), len(teachers))
                )  # fmt: skip
    return suspects


def suspicious_rows(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows whose most likely class is not the label and has at least the probability `SURE`, surest first."""
    most = probabilities.max(1)
    rows = np.flatnonzero((probabilities.argmax(1) != labels) & (most >= SURE))
    return rows[np.argsort(-most[rows], kind="stable")]


def suspects_section(suspects: Iterable[Suspect], texts: Texts) -> list[Section]:
    """A table of the rows whose labels a person should look at.

    Args:
        texts: of rows by guid; empty where texts are not to be shown.
    """
    ordered = sorted(suspects, key=lambda suspect: -suspect.probability)
    if not ordered:
        return []
    trained_on = sum(suspect.trained_on for suspect in ordered)
    kinds = {"training": trained_on, "test": len(ordered) - trained_on}
    headers = ["guid", "domain", "label", "teacher says", *["text"] * bool(texts), "table", "probability", "teachers"]
    rows = []
    for s in ordered[:MOST_SUSPECTS]:
        text = [shorten(texts.get(s.guid, ""), 300)] if texts else []
        rows.append([shorten(s.guid, 80), s.domain, s.label, s.said, *text, s.table, f"{s.probability:.3f}",
                     str(s.teachers)])  # fmt: skip
    number = " and ".join(f"{count} {kind} rows" for kind, count in kinds.items() if count)
    about = (
        f"On {number} the teacher is at least {100 * SURE:.0f} % sure (mean over its seeds) of another class than the "
        "label. Either the label is wrong or the teacher is; a person should look. A training row weighs more: the "
        "teacher was trained on its label and contradicts it still."
    )
    title = f"The {len(rows)} surest of {len(ordered)} rows" if len(ordered) > len(rows) else "All these rows"
    table = Table(headers, rows, text_columns=len(headers) - 2)
    return [Section("Label suspects", [about], tables=[NamedTable(title, table)])]
