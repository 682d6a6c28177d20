import random
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from metakd.data.formats import TableError, write
from metakd.data.labels import Labels
from metakd.data.logits_files import prediction_columns, prediction_rows, read_logits
from metakd.training.teachers import average_logits

LABELS = Labels(("no", "yes", "so\tso"))
GUIDS = [f"g {i}" for i in range(2500)]
LOGITS = np.random.default_rng(0).normal(size=(2500, 3)).astype(np.float32)
ALL = np.ones(2500, dtype=bool)


def write_file(
    path: Path, labels: Labels = LABELS, kinds: tuple[str, ...] = ("logits",), logits: np.ndarray = LOGITS
) -> None:
    columns = prediction_columns(labels, kinds)
    write(path, prediction_rows(GUIDS, logits, labels, columns), columns, path.suffix)


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_logits_are_read_exactly_as_written_in_any_order(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"o{suffix}"
    reordered = Labels(("yes", "so\tso", "no"))
    write_file(path, kinds=("predictions", "probabilities", "logits"))
    order = random.Random(1).sample(range(2500), 2500)
    logits = read_logits(path, reordered, [GUIDS[i] for i in order], ALL)
    np.testing.assert_array_equal(logits, LOGITS[order][:, [1, 2, 0]])


def test_probabilities_are_converted_to_logits(tmp_path: Path) -> None:
    write_file(tmp_path / "o.jsonl", kinds=("probabilities",))
    logits = read_logits(tmp_path / "o.jsonl", LABELS, GUIDS, ALL)
    np.testing.assert_allclose(softmax(logits, 1), softmax(LOGITS, 1), atol=2e-6)


@pytest.mark.parametrize("kinds", [("logits",), ("probabilities",)])
def test_a_file_may_know_more_classes_than_one_domain(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    """Of a domain's own classes the probabilities are those of all, divided by their sum."""
    write_file(tmp_path / "o.jsonl", kinds=kinds)
    logits = read_logits(tmp_path / "o.jsonl", Labels(("so\tso", "no"), domain="x"), GUIDS, ALL)
    every = softmax(LOGITS, 1)[:, [2, 0]]
    np.testing.assert_allclose(softmax(logits, 1), every / every.sum(1, keepdims=True), atol=2e-5)
    with pytest.raises(TableError, match=r"columns for .*'so\\tso'\], the labels are \['no', 'yes'\]"):
        read_logits(tmp_path / "o.jsonl", Labels(("no", "yes")), GUIDS, ALL)


def test_rows_that_do_not_fit_are_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "o.tsv"
    write_file(path)
    header, *lines = path.read_text().splitlines()

    def refused(rows: list[str], message: str, top: str = header) -> None:
        path.write_text("\n".join([top, *rows]) + "\n")
        with pytest.raises(TableError, match=message):
            read_logits(path, LABELS, GUIDS, ALL)

    refused(lines[5:], r"5 rows are missing, first 'g 0', 'g 1', 'g 2';")
    refused([*lines, "x\t1\t2\t3"], r"1 rows are not in the tables, first 'x' in row 2501")
    refused([*lines, lines[7]], r"1 rows occur twice, first 'g 7' in row 2501")
    broken = [line.replace(line.split("\t")[1], "inf") for line in lines[:2]]
    refused(
        [*broken, *lines[2:]],
        r"2 rows are without finite logits or probabilities, first 'g 0' in row 1, 'g 1' in row 2",
    )
    refused(lines, r"columns for \['no', 'maybe', 'so\\tso'\], the labels are", top=header.replace("yes", "maybe"))
    refused(lines, "has no column 'guid'", top=header.replace("guid", "id"))
    refused([], "has no rows")
    percentages = ["g 0\t20\t50\t30", *(f"{guid}\t0.2\t0.5\t0.3" for guid in GUIDS[1:])]
    refused(
        percentages, "1 rows are percents, which must be divided by 100", top=header.replace("logit.", "probability.")
    )
    needed = ALL.copy()
    needed[:5] = False
    path.write_text("\n".join([header, *lines[5:]]) + "\n")
    logits = read_logits(path, LABELS, GUIDS, needed)
    assert np.isnan(logits[:5]).all()
    np.testing.assert_array_equal(logits[5:], LOGITS[5:])
    with pytest.raises(TableError, match="the guid 'g 1' is in both training tables"):
        read_logits(path, LABELS, [*GUIDS, "g 1"], np.ones(2501, dtype=bool))


def test_averages_by_hand_and_against_a_loop() -> None:
    one, two = LOGITS[:50], LOGITS[50:100]
    np.testing.assert_allclose(
        average_logits([one, two], [3, 1], "logits", "single_label"), (3 * one + two) / 4, rtol=1e-5, atol=1e-7
    )
    average = average_logits([one, two], [3, 1], "probabilities", "single_label")
    np.testing.assert_allclose(softmax(average, 1), (3 * softmax(one, 1) + softmax(two, 1)) / 4, rtol=1e-5)
    average = average_logits([one, two], None, "probabilities", "multi_label")
    for i in range(50):
        for c in range(3):
            mean = (1 / (1 + np.exp(-one[i, c])) + 1 / (1 + np.exp(-two[i, c]))) / 2
            assert 1 / (1 + np.exp(-average[i, c])) == pytest.approx(mean, rel=1e-4)
    average = average_logits([one], None, "probabilities", "single_label")
    np.testing.assert_allclose(softmax(average, 1), softmax(one, 1), rtol=1e-5)
