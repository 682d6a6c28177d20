import numpy as np
import pytest

from metakd.data.few_labels import visible_labels
from metakd.data.labels import Labels, sorted_label_names
from metakd.errors import InputError


def test_one_class() -> None:
    labels = Labels(("no", "yes"))
    assert labels.targets(["yes", "no", ""]).tolist() == [1, 0, 0]
    assert labels.first_unknown("yes") is None and labels.first_unknown("maybe") == "maybe"
    targets = labels.predicted(np.array([[0.1, 0.2], [3.0, -1.0]]))
    assert [labels.to_text(target) for target in targets] == ["yes", "no"]


def test_several_classes_or_none() -> None:
    labels = Labels(("a", "b", "c"), "multi_label")
    assert labels.targets(["c|a", "|", "b"]).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert labels.first_unknown("a|d") == "d" and labels.first_unknown("|") is None
    targets = labels.predicted(np.array([[0.1, -0.2, 3.0], [-1.0, -1.0, -1.0]]))
    assert [labels.to_text(target) for target in targets] == ["a|c", "|"]
    assert sorted_label_names(["c|a", "|", "", "b"], "multi_label") == ["a", "b", "c"]


def test_numbers() -> None:
    labels = Labels(("score",), "regression")
    assert labels.targets(["1.5", "", "-2"]).tolist() == [1.5, 0, -2]
    assert (
        labels.first_unknown("1e3") is None
        and labels.first_unknown("nan") == "nan"
        and labels.first_unknown("many") == "many"
    )
    assert labels.to_text(labels.predicted(np.array([[2.5]]))[0]) == "2.5"


def test_few_labels_are_stratified_seeded_nested_and_blind_to_order() -> None:
    guids = [f"g{i}" for i in range(1000)]
    classes = ["rare" if i % 10 == 0 else "common" for i in range(1000)]
    small, large = (visible_labels(guids, classes, fraction, 1) for fraction in (0.013, 0.02))
    assert [int(small[np.array(classes) == c].sum()) for c in ("rare", "common")] == [2, 12]  # 1.3 and 11.7, rounded up
    assert large.sum() == 2 + 18 and (large | ~small).all()
    assert visible_labels(guids, classes, 0.0, 1).sum() == 0 and visible_labels(guids, classes, 1.0, 1).all()
    assert (visible_labels(guids[::-1], classes[::-1], 0.013, 1)[::-1] == small).all()
    assert (visible_labels(guids, classes, 0.013, 2) != small).any()
    with pytest.raises(InputError, match=r"^fraction is 2\.0; .* from 0 to 1$"):
        visible_labels(guids, classes, 2.0, 1)
