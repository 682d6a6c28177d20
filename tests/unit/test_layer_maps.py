import pytest

from metakd.errors import InputError
from metakd.objectives.layer_maps import resolve, uniform


def test_twelve_to_four() -> None:
    assert uniform(12, 4, first=0) == [(0, 0), (3, 1), (6, 2), (9, 3), (12, 4)]
    assert resolve("uniform", 6, 3) == [(2, 1), (4, 2), (6, 3)]
    assert resolve("final", 6, 3) == [(6, 3)]
    assert resolve([[0, 0], [6, 3]], 6, 3, first=0) == [(0, 0), (6, 3)]


def test_patient_maps_are_those_of_the_paper() -> None:
    """Patient KD, section 3.2: a 6-layer student of BERT-base learns from {2, 4, 6, 8, 10} or {7, 8, 9, 10, 11}."""
    assert resolve("skip", 12, 6) == [(2, 1), (4, 2), (6, 3), (8, 4), (10, 5)]
    assert resolve("last", 12, 6) == [(7, 1), (8, 2), (9, 3), (10, 4), (11, 5)]
    for layers in ("skip", "last"):
        with pytest.raises(InputError, match=r"leaves none\. Use layers: final"):
            resolve(layers, 6, 1)


def test_pairs_as_they_stand() -> None:
    assert resolve([[1, 1], [6, 2]], 6, 3) == [(1, 1), (6, 2)]


def test_what_does_not_fit_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match=r"4 does not divide 6. Choose 1, 2, 3, 6 layers"):
        uniform(6, 4, first=0)
    with pytest.raises(InputError, match=r"\[7, 1\] is out of range; the teacher has layers 1 to 6"):
        resolve([[7, 1]], 6, 3)
    with pytest.raises(InputError, match="pairs"):
        resolve([[1]], 6, 3)
    with pytest.raises(InputError, match=r"\[0, 1\] is out of range; the teacher has layers 1 to 6"):
        resolve([[0, 1]], 6, 3)
