from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import normalizers
from transformers import AutoModelForSequenceClassification

from metakd.config import StudentFromTeacher
from metakd.data.encoding import encode, load_tokenizer, same_tokens
from metakd.data.labels import Labels
from metakd.data.tables import write_rows
from metakd.errors import InputError
from metakd.models.classifier import check_tokenizer, label_order, layer_prefix, load_classifier
from metakd.models.domain_head import DomainHead
from metakd.models.pooling import embed, masked_mean
from metakd.models.students import cut_student
from tests.conftest import FAMILIES, make_rows, make_tokenizer, tiny_config

LABELS = Labels(("LABEL_0", "LABEL_1"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_has_the_mapped_layers_of_its_teacher(family: str) -> None:
    teacher = AutoModelForSequenceClassification.from_config(tiny_config(family, layers=4))
    student = cut_student(teacher, StudentFromTeacher(2), LABELS)
    prefix, of_teacher = layer_prefix(teacher), teacher.state_dict()
    assert student.config.num_hidden_layers == 2
    checked = 0
    for name, value in student.state_dict().items():
        if name.startswith(prefix):
            layer, rest = name.removeprefix(prefix).split(".", 1)
            name = f"{prefix}{(int(layer) + 1) * 2 - 1}.{rest}"  # student 1, 2 <- teacher 2, 4
            checked += 1
        torch.testing.assert_close(value, of_teacher[name], rtol=0, atol=0)
    assert checked > 10


def test_all_layers_kept_is_the_teacher_itself() -> None:
    teacher = AutoModelForSequenceClassification.from_config(tiny_config()).eval()
    student = cut_student(teacher, StudentFromTeacher(4), LABELS).eval()
    ids = torch.randint(4, 25, (2, 7))
    torch.testing.assert_close(student(input_ids=ids).logits, teacher(input_ids=ids).logits, rtol=0, atol=0)


def test_a_depth_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"3 does not divide 4\. Choose 1, 2, 4 layers"):
        cut_student(
            AutoModelForSequenceClassification.from_config(tiny_config(layers=4)), StudentFromTeacher(3), LABELS
        )


def test_labels_are_matched_by_name(encoder: Callable[..., Path], tmp_path: Path) -> None:
    model = load_classifier(str(encoder()), Labels(("no", "yes")))
    model.save_pretrained(tmp_path / "trained")
    again = load_classifier(str(tmp_path / "trained"), Labels(("yes", "no")))
    assert again.config.id2label == {0: "no", 1: "yes"}  # the trained order stays
    assert label_order(["no", "yes"], ["yes", "no"], "x") == [1, 0]
    with pytest.raises(InputError, match=r"classifies \['no', 'yes'\], wanted are \['no', 'maybe'\]"):
        load_classifier(str(tmp_path / "trained"), Labels(("no", "maybe")))


def test_a_tokenizer_that_does_not_fit_is_refused() -> None:
    config = tiny_config()
    config.vocab_size = 20
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(InputError, match="ids up to 24, the model has 20"):
        check_tokenizer(model, make_tokenizer(), 32, "m")
    roberta = AutoModelForSequenceClassification.from_config(tiny_config("roberta"))
    with pytest.raises(InputError, match="has 65 positions, max_length is 66; set max_length to 65 or less"):
        check_tokenizer(roberta, make_tokenizer(), 66, "m")


def test_embeddings_leave_out_padding_and_cls(encoder: Callable[..., Path], tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = encoder()
    path = tmp_path / "t.tsv"
    write_rows(path, make_rows(6))
    tokenizer = load_tokenizer(str(folder))
    rows = encode(path, tokenizer, 32)
    model = AutoModel.from_pretrained(folder).eval()
    found = embed(model, rows.batch(torch.arange(6).numpy()))
    for i, row in enumerate(make_rows(6)):
        states = model(**tokenizer(row["text_a"], return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(found[i], states[1:].mean(0), rtol=1e-4, atol=1e-5)


def test_pairs_and_single_rows_in_one_table(tmp_path: Path) -> None:
    rows = make_rows(4)
    rows[1]["text_b"] = "very good"
    path = tmp_path / "t.tsv"
    write_rows(path, rows)
    tokenizer = make_tokenizer()
    encoded = encode(path, tokenizer, 32)
    for i, row in enumerate(rows):
        wanted = tokenizer(row["text_a"], row["text_b"] or None)
        assert encoded.tokens[i]["input_ids"] == wanted["input_ids"]
        assert encoded.tokens[i]["token_type_ids"] == wanted["token_type_ids"]
    assert "token_type_ids" not in encode(path, make_tokenizer(types=False), 32).tokens.column_names


def test_tokenizers_are_compared_by_what_they_do() -> None:
    cased = make_tokenizer()
    cased.backend_tokenizer.normalizer = normalizers.NFC()
    assert same_tokens(make_tokenizer(), make_tokenizer(types=False))
    larger = make_tokenizer()
    larger.add_tokens(["café"])
    assert not same_tokens(make_tokenizer(), larger)
    lower = make_tokenizer()
    for tokenizer in (cased, lower):
        tokenizer.add_tokens(["café"])
    assert not same_tokens(cased, lower)


def test_masked_mean_and_domain_head_by_hand() -> None:
    states = torch.tensor([[[9.0], [1.0], [3.0], [7.0]]])
    assert masked_mean(states, torch.tensor([[0, 1, 1, 0]])).tolist() == [[2.0]]
    head = DomainHead(1, 2)
    with torch.no_grad():
        head.domain_embedding.weight.copy_(torch.tensor([[0.5], [-1.0]]))
        head.dense.weight.fill_(2.0)
        head.dense.bias.fill_(0.1)
    moved = head.for_domains(["a", "b"], ["b", "new", "a"])
    assert moved.domain_embedding.weight.flatten().tolist() == [-1.0, -0.25, 0.5]
    assert torch.equal(moved.dense.weight, head.dense.weight) and head.for_domains(["a"], ["a"]) is head
    found = head(states, torch.tensor([[0, 1, 1, 0]]), torch.tensor([1]))
    torch.testing.assert_close(found, torch.tanh(torch.tensor([[2.0 * (2.0 - 1.0) + 0.1]])))
