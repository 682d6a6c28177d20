"""Models as they are loaded, cut, checked, pooled and saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from metakd.config import BiLSTMStudent, FreshStudent, Student, StudentFromTeacher, TextCNNStudent
from metakd.data.encoding import encode
from metakd.data.labels import Labels
from metakd.data.tables import write_rows
from metakd.errors import InputError
from metakd.models.classifier import label_order, layer_prefix
from metakd.models.domain_head import DomainHead
from metakd.models.loading import load_classifier, load_tokenizer
from metakd.models.model_io import ModelInfo, load_domain_head, load_info, save_model
from metakd.models.pooling import embed, masked_mean
from metakd.models.student_init import cut_student, describe_start, fresh_student, kept_layers, student_config
from metakd.training.dry_run import try_model
from tests.conftest import FAMILIES, make_rows, make_tokenizer, tiny_config

LABELS = Labels(("no", "yes"))


def classifier(family: str = "bert", **options: Any) -> PreTrainedModel:
    return AutoModelForSequenceClassification.from_config(tiny_config(family, **options)).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_has_the_mapped_layers_of_its_teacher(family: str) -> None:
    teacher = classifier(family, layers=4)
    student = cut_student(teacher, StudentFromTeacher(2, "uniform"))
    prefix, weights = layer_prefix(teacher), teacher.state_dict()
    assert student.config.num_hidden_layers == 2
    in_layers = 0
    for name, value in student.state_dict().items():
        if name.startswith(prefix):
            layer, rest = name.removeprefix(prefix).split(".", 1)
            name = f"{prefix}{(int(layer) + 1) * 2 - 1}.{rest}"  # student 1, 2 <- teacher 2, 4
            in_layers += 1
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)
    assert in_layers > 10


def test_a_student_of_all_layers_is_its_teacher() -> None:
    teacher = classifier()
    student = cut_student(teacher, StudentFromTeacher(4)).eval()
    ids = torch.randint(4, 25, (2, 7))
    torch.testing.assert_close(student(input_ids=ids).logits, teacher(input_ids=ids).logits, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        (StudentFromTeacher(3), [1, 3, 6]),
        (StudentFromTeacher(4), [1, 2, 4, 6]),
        (StudentFromTeacher(1), [6]),
        (StudentFromTeacher(6), [1, 2, 3, 4, 5, 6]),
        (StudentFromTeacher(3, "uniform"), [2, 4, 6]),
        (StudentFromTeacher(2, "first"), [1, 2]),
        (StudentFromTeacher(2, "last"), [5, 6]),
        (StudentFromTeacher([1, 3, 6]), [1, 3, 6]),
    ],
)
def test_which_layers_a_student_copies(spec: StudentFromTeacher, layers: list[int]) -> None:
    assert kept_layers(spec, 6) == layers


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (4, r"4 does not divide 6\. Choose 1, 2, 3, 6 layers"),
        (7, r"student\.layers: 7 is not between 1 and the teacher's 6"),
        (0, r"student\.layers: 0 is not between 1"),
        ([], r"student\.layers: \[\] is not a rising list"),
        ([3, 1], r"student\.layers: \[3, 1\] is not a rising list of layers from 1 to 6"),
        ([2, 2], r"\[2, 2\] is not a rising list"),
        ([0, 2], r"\[0, 2\] is not a rising list"),
        ([2, 7], r"\[2, 7\] is not a rising list"),
    ],
)
def test_layers_that_the_teacher_lacks_are_refused(layers: int | list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kept_layers(StudentFromTeacher(layers, "uniform"), 6)


def test_a_cut_modernbert_keeps_the_kind_of_each_layer() -> None:
    source = tiny_config("modernbert", layers=6)
    assert source.layer_types[:3] == ["full_attention", "sliding_attention", "sliding_attention"]
    config = student_config(StudentFromTeacher([1, 2, 4]), source, LABELS)
    assert config.layer_types == ["full_attention", "sliding_attention", "full_attention"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_student_has_its_own_size(family: str) -> None:
    student = fresh_student(FreshStudent(24, 3, heads=4, intermediate_size=40), classifier(family), LABELS)
    assert (student.config.hidden_size, student.config.num_hidden_layers, student.config.num_attention_heads) == (
        24,
        3,
        4,
    )
    assert student.config.id2label == {0: "no", 1: "yes"}
    shapes = {
        tuple(parameter.shape)
        for name, parameter in student.named_parameters()
        if name.startswith(layer_prefix(student))
    }
    assert (24, 24) in shapes and any(40 in shape or 80 in shape for shape in shapes)  # ModernBERT joins two matrices
    assert fresh_student(FreshStudent(24, 1), classifier(family), LABELS).config.num_attention_heads == 2


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match=r"student: 5 heads do not divide hidden_size 12; .* \[1, 2, 3, 4, 6, 12\]"):
        student_config(FreshStudent(12, 1, heads=5), tiny_config(), LABELS)


@pytest.mark.parametrize(
    ("student", "start"),
    [
        ("org/model", "org/model"),
        (StudentFromTeacher(2), "layers 1, 4 of the trained teacher"),
        (StudentFromTeacher([1, 4], of="pretrained"), "layers 1, 4 of the pretrained encoder"),
        (FreshStudent(8, 2), "random weights"),
        (TextCNNStudent("text_cnn"), "random weights, the pretrained encoder's word embeddings"),
        (BiLSTMStudent("bilstm", embedding_size=9), "random weights"),
    ],
)
def test_the_start_of_a_student_in_words(student: Student, start: str) -> None:
    assert describe_start(student, 4) == start


def test_labels_are_matched_by_name(encoder: Callable[..., Path], tmp_path: Path) -> None:
    load_classifier(str(encoder()), LABELS).save_pretrained(tmp_path / "trained")
    reloaded = load_classifier(str(tmp_path / "trained"), Labels(("yes", "no")))
    assert reloaded.config.id2label == {0: "no", 1: "yes"}  # the trained order stays
    assert label_order(["no", "maybe", "yes"], Labels(("yes", "no", "maybe")), "x") == [2, 0, 1]
    with pytest.raises(InputError, match=r"x has the labels \['no', 'yes'\], the student \['no', 'maybe'\]"):
        label_order(["no", "yes"], Labels(("no", "maybe")), "x")
    with pytest.raises(InputError, match=r"classifies \['no', 'yes'\], the task has \['no', 'maybe'\]; start"):
        load_classifier(str(tmp_path / "trained"), Labels(("no", "maybe")))
    with pytest.raises(InputError, match=r"\(single_label instead of multi_label\)"):
        load_classifier(str(tmp_path / "trained"), Labels(("no", "yes"), "multi_label"))


def test_a_model_that_is_not_there_is_refused(encoder: Callable[..., Path], tmp_path: Path) -> None:
    encoder("teachers/books")
    with pytest.raises(InputError, match=r"its folders \['books'\] hold models"):
        load_classifier(str(tmp_path / "teachers"), LABELS)
    with pytest.raises(InputError, match="there is no folder of this name"):
        load_classifier(str(tmp_path / "nowhere"), LABELS)


def test_a_tokenizer_that_does_not_fit_is_refused() -> None:
    config = tiny_config()
    config.vocab_size = 20
    with pytest.raises(InputError, match="ids up to 24, the model has 20"):
        try_model(AutoModelForSequenceClassification.from_config(config), make_tokenizer(), 32, "m")
    with pytest.raises(InputError, match=r"max_length is 67, but m has 66 positions; set task\.max_length .* to 66"):
        try_model(classifier(), make_tokenizer(), 67, "m")
    with pytest.raises(InputError, match=r"max_length is 66, but m has 65 positions; set task\.max_length .* to 65"):
        try_model(classifier("roberta"), make_tokenizer(), 66, "m")  # it counts from 1
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(InputError, match="m: the tokenizer has no padding token"):
        try_model(classifier(), tokenizer, 32, "m")


def test_embeddings_leave_out_padding_and_cls(encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder, table = encoder(), tmp_path / "table.tsv"
    write_rows(table, make_rows(6))
    tokenizer, model = load_tokenizer(str(folder)), AutoModel.from_pretrained(folder).eval()
    embeddings = embed(model, encode(table, tokenizer, 32).batch(torch.arange(6).numpy()))
    for row, embedding in zip(make_rows(6), embeddings, strict=True):
        states = model(**tokenizer(row["text_a"], return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(embedding, states[1:].mean(0), rtol=1e-4, atol=1e-5)


STATES, CONTENT = torch.tensor([[[9.0], [1.0], [3.0], [7.0]]]), torch.tensor([[0, 1, 1, 0]])


def test_masked_mean_by_hand() -> None:
    assert masked_mean(STATES, CONTENT).tolist() == [[2.0]]
    assert masked_mean(STATES, torch.zeros_like(CONTENT)).tolist() == [[0.0]]


@pytest.fixture
def head() -> DomainHead:
    """e = (0.5, -1), W = 2, b = 0.1."""
    head = DomainHead(1, 2)
    with torch.no_grad():
        head.domain_embedding.weight.copy_(torch.tensor([[0.5], [-1.0]]))
        head.dense.weight.fill_(2.0)
        head.dense.bias.fill_(0.1)
    return head


def test_domain_head_by_hand(head: DomainHead) -> None:
    expected = torch.tensor([[2.0 * (-1.0 + 2.0) + 0.1]]).tanh()  # W (e_k + mean) + b
    torch.testing.assert_close(head(STATES, CONTENT, torch.tensor([1])), expected)


def test_a_domain_head_moves_to_other_domains_by_name(head: DomainHead) -> None:
    moved = head.for_domains(["a", "b"], ["b", "new", "a"])
    assert moved.domain_embedding.weight.flatten().tolist() == [-1.0, -0.25, 0.5]  # a new one gets the mean
    assert torch.equal(moved.dense.weight, head.dense.weight) and torch.equal(moved.dense.bias, head.dense.bias)
    assert head.for_domains(["a"], ["a"]) is head


def test_a_saved_model_comes_back_with_its_domain_head(tmp_path: Path) -> None:
    model, head = classifier(), DomainHead(16, 2)
    info = ModelInfo(["books", "films"], 24, recipe={"teacher": {"kind": "meta"}}, notes=["a note"])
    save_model(
        tmp_path, model, make_tokenizer(), info, {"domain_head": head, "nothing": None, "empty": torch.nn.ModuleDict()}
    )
    assert load_info(tmp_path) == info
    loaded = load_domain_head(tmp_path, 16)
    assert loaded is not None and loaded[1] == ["books", "films"]
    for name, value in head.state_dict().items():
        assert torch.equal(loaded[0].state_dict()[name], value)
    assert [file.name for file in tmp_path.glob("*.safetensors") if file.name != "model.safetensors"] == [
        "domain_head.safetensors"
    ]
    assert load_tokenizer(str(tmp_path)).model_max_length == 24
    with pytest.raises(InputError, match=r"domain_head\.safetensors does not fit a model of width 8 over \['books'"):
        load_domain_head(tmp_path, 8)


def test_a_model_of_other_origin_has_neither_info_nor_domain_head(encoder: Callable[..., Path]) -> None:
    folder = encoder()
    assert load_info(folder) is None and load_domain_head(folder, 16) is None
