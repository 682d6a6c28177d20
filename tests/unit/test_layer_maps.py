import pytest

from metakd.errors import InputError
from metakd.methods.layer_maps import LayerMap, resolve, uniform


def test_tinybert_maps_twelve_layers_to_four() -> None:
    """TinyBERT, section 4.1: g(m) = 3 * m, with the embedding layer as layer 0."""
    assert uniform(12, 4, first=0) == [(0, 0), (3, 1), (6, 2), (9, 3), (12, 4)]
    assert resolve("uniform", 6, 3) == [(2, 1), (4, 2), (6, 3)]
    assert resolve("uniform", 4, 4) == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_student_is_compared_with_the_layers_that_it_was_cut_from() -> None:
    assert resolve("uniform", 6, 3, copied=[1, 3, 6]) == [(1, 1), (3, 2), (6, 3)]
    assert resolve("uniform", 6, 4, copied=[1, 2, 4, 6]) == [(1, 1), (2, 2), (4, 3), (6, 4)]
    assert resolve("final", 6, 3, copied=[1, 3, 5]) == [(6, 3)]


def test_final_maps_the_last_layer_at_any_depth() -> None:
    assert resolve("final", 6, 4) == [(6, 4)]


def test_patient_maps_are_those_of_the_paper() -> None:
    """Patient KD, section 3.2: a 6-layer student of BERT-base learns from {2, 4, 6, 8, 10} or {7, 8, 9, 10, 11}."""
    assert resolve("skip", 12, 6) == [(2, 1), (4, 2), (6, 3), (8, 4), (10, 5)]
    assert resolve("last", 12, 6) == [(7, 1), (8, 2), (9, 3), (10, 4), (11, 5)]


def test_pairs_stay_as_they_are_written() -> None:
    assert resolve([[1, 1], [6, 2], [6, 3]], 6, 3) == [(1, 1), (6, 2), (6, 3)]
    assert resolve([[0, 0], [6, 3]], 6, 3, first=0) == [(0, 0), (6, 3)]


@pytest.mark.parametrize(
    ("layers", "teacher", "student", "message"),
    [
        ("uniform", 6, 4, r"4 does not divide 6\. Choose 1, 2, 3, 6 layers, or write the map"),
        ("skip", 6, 4, r"4 does not divide 6\. Choose 1, 2, 3, 6 layers"),
        ("skip", 6, 1, r"skip .* have 6 and 1 layers, which leaves none\. Use layers: final"),
        ("last", 6, 1, r"last .* have 6 and 1 layers, which leaves none\. Use layers: final"),
        ("last", 3, 4, r"last .* have 3 and 4 layers, which leaves none\. Use layers: final"),
        ([[7, 1]], 6, 3, r"\[7, 1\] is out of range; the teacher has layers 1 to 6, the student 1 to 3"),
        ([[1, 4]], 6, 3, r"\[1, 4\] is out of range"),
        ([[0, 1]], 6, 3, r"\[0, 1\] is out of range"),
        ([[1, 1], [2]], 6, 3, r"\[\[1, 1\], \[2\]\] is not a list of \[teacher, student\] pairs"),
        ([], 6, 3, r"\[\] is not a list of \[teacher, student\] pairs"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(layers: LayerMap, teacher: int, student: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(layers, teacher, student)
