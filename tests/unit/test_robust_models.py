"""Models that are not what they seem, and models and tokenizers that do not fit each other, are refused by name."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, GPT2Config

from metakd.config import FreshStudent, StudentFromTeacher
from metakd.data.encoding import encode
from metakd.data.labels import Labels
from metakd.data.tables import read_rows, write_rows
from metakd.errors import InputError, Interrupted
from metakd.models.attention import enable_reading
from metakd.models.classifier import labels_of
from metakd.models.domain_head import DomainHead
from metakd.models.loading import load_classifier, load_config, load_encoder, load_tokenizer
from metakd.models.model_files import reading
from metakd.models.model_io import ModelInfo, load_domain_head, load_info, save_model
from metakd.models.pooling import embed
from metakd.models.student_init import student_config
from metakd.training.dry_run import load_with_tokenizer, try_features, try_model
from metakd.training.inference import infer_batches, load_trained_classifier, predict_logits
from metakd.training.teacher_outputs import CachedTeacherOutputs, TeacherOutputs
from metakd.training.teachers import load_teacher
from tests import families
from tests.conftest import (
    CUT,
    DOMAINS,
    ROOT,
    Tables,
    distill,
    make_random_teacher,
    make_rows,
    make_task,
    make_tokenizer,
    read_method,
    script,
    tiny_config,
    train_teacher,
)
from tests.conftest import LABELS as TASK_LABELS

LABELS = Labels(("no", "yes"))
Save = Callable[..., Path]
Weights = dict[str, Tensor]


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """Folder of a trained classifier over "no" and "yes"."""
    torch.manual_seed(3)
    config = tiny_config(layers=2)
    config.id2label, config.label2id = {0: "no", 1: "yes"}, {"no": 0, "yes": 1}
    model = AutoModelForSequenceClassification.from_config(config)
    head = DomainHead(16, 1)
    save_model(tmp_path / "trained", model, make_tokenizer(), ModelInfo(["books"], 32), {"domain_head": head})
    return tmp_path / "trained"


def edit_weights(folder: Path, change: Callable[[Weights], Weights]) -> None:
    file = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}, file, {"format": "pt"})


def edit_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def without(text: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: tensor for name, tensor in weights.items() if text not in name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("classifier"), r"2 tensors of the model are missing: classifier\.bias, classifier\.weight"),
        (without("layer.1.output.dense.bias"), r"1 tensors .* missing: bert\.encoder\.layer\.1\.output\.dense\.bias"),
        (lambda w: {f"x.{name}": tensor for name, tensor in w.items()}, r"41 tensors .*missing.* have no place"),
        (lambda w: {**w, "odd": torch.ones(1)}, "1 tensors have no place in the model: odd"),
        (lambda w: {**w, "classifier.bias": torch.ones(3)}, r"classifier\.bias has the shape \[3\], .* it \[2\]"),
        (lambda w: {**w, "classifier.bias": torch.tensor([1.0, torch.nan])}, r"classifier\.bias holds NaN or infinity"),
    ],
)
def test_every_tensor_of_a_trained_classifier_counts(
    change: Callable[[Weights], Weights], message: str, classifier: Path
) -> None:
    edit_weights(classifier, change)
    with pytest.raises(InputError, match=f"{classifier}: .*{message}"):
        load_classifier(str(classifier), LABELS)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", ["classifier", "encoder"])
def test_a_config_with_other_layers_than_the_file_is_refused(
    kind: str, layers: int, classifier: Path, encoder: Save
) -> None:
    folder = classifier if kind == "classifier" else encoder(layers=2)
    edit_json(folder / "config.json", num_hidden_layers=layers)
    with pytest.raises(InputError, match=r"16 tensors .*encoder\.layer\.[12]\."):
        load_classifier(str(folder), LABELS)


@pytest.mark.parametrize(
    ("family", "tensor"),
    [
        ("distilbert", "pre_classifier.bias"),
        ("electra", "classifier.out_proj.weight"),
        ("roberta", "roberta.embeddings.position_embeddings.weight"),
        ("modernbert", "head.norm.weight"),
    ],
)
def test_other_families_lack_no_tensor_either(family: str, tensor: str, encoder: Save, tmp_path: Path) -> None:
    load_classifier(str(encoder(family=family)), LABELS).save_pretrained(tmp_path / "trained")
    load_classifier(str(tmp_path / "trained"), LABELS)
    edit_weights(tmp_path / "trained", without(tensor))
    with pytest.raises(InputError, match=rf"1 tensors of the model are missing: {re.escape(tensor)}"):
        load_classifier(str(tmp_path / "trained"), LABELS)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_weights_of_types_that_no_weights_have_are_refused(dtype: torch.dtype, classifier: Path) -> None:
    edit_weights(classifier, lambda weights: {**weights, (name := sorted(weights)[3]): weights[name].to(dtype)})
    with pytest.raises(InputError, match=r"model\.safetensors: .* has a type that no weights have"):
        load_classifier(str(classifier), LABELS)


def test_a_length_that_no_row_has_is_refused_at_once(classifier: Path) -> None:
    edit_json(classifier / "metakd.json", max_length=10**9)
    with pytest.raises(InputError, match="max_length is not from 1 to 100000"):
        load_trained_classifier(classifier, None, Accelerator(cpu=True))
    edit_json(classifier / "metakd.json", max_length=100_000)
    with pytest.raises(InputError, match=r"max_length is 100000, but .* has \d+ positions"):
        load_trained_classifier(classifier, None, Accelerator(cpu=True))


def test_too_many_layers_are_not_blamed_on_a_pooler(encoder: Save) -> None:
    folder = encoder(family="distilbert")
    edit_json(folder / "config.json", n_layers=1)
    with pytest.raises(InputError, match=r"tensors have no place in the model.*or correct config\.json$"):
        load_encoder(str(folder))


def test_an_encoder_lacks_no_tensor_but_its_head_and_a_pooler_that_nobody_reads(encoder: Save, tmp_path: Path) -> None:
    folder = encoder()
    load_classifier(str(folder), LABELS)
    torch.manual_seed(7)
    AutoModelForMaskedLM.from_config(tiny_config()).save_pretrained(tmp_path / "mlm")  # has no pooler
    states = load_encoder(str(tmp_path / "mlm"))(input_ids=torch.tensor([[2, 5, 3]])).last_hidden_state
    again = load_encoder(str(tmp_path / "mlm"))(input_ids=torch.tensor([[2, 5, 3]])).last_hidden_state
    assert torch.equal(states, again)
    with pytest.raises(InputError, match=r"missing: bert\.pooler.*a classifier of this family reads the pooler"):
        load_classifier(str(tmp_path / "mlm"), LABELS)
    AutoModel.from_pretrained(tmp_path / "mlm").save_pretrained(tmp_path / "whole")  # as the message says
    load_classifier(str(tmp_path / "whole"), LABELS)
    for tensor in ("pooler.dense.bias", "embeddings.LayerNorm.weight", "encoder.layer.3.attention.self.key.weight"):
        shutil.copytree(folder, tmp_path / "damaged", dirs_exist_ok=True)
        edit_weights(tmp_path / "damaged", without(tensor))
        with pytest.raises(InputError, match=f"1 tensors of the model are missing: bert.{tensor}"):
            load_classifier(str(tmp_path / "damaged"), LABELS)


@pytest.mark.parametrize("family", ["roberta", "modernbert", "electra", "distilbert"])
def test_heads_that_nobody_reads_are_left_out(family: str, tmp_path: Path) -> None:
    for kind in (AutoModel, AutoModelForMaskedLM):
        kind.from_config(tiny_config(family)).save_pretrained(tmp_path)
        load_classifier(str(tmp_path), LABELS)
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["no", "yes"], "id2label has no, yes; it must map each number from 0 on"),
        ({"1": "no", "2": "yes"}, "it must map each number from 0 on"),
        ({"0": "no", "2": "yes"}, "it must map each number from 0 on"),
        ({"0": 0, "1": 1}, "id2label names 0, 1; every name must be text"),
        ({"0": None, "1": "yes"}, "every name must be text"),
        ({"0": "no", "1": "no"}, "id2label names no, no, some of them twice"),
        ({"0": "yes", "1": "no"}, "label2id and id2label give the classes different numbers"),
        (7, "id2label has 7; it must map"),
        ({}, "it must map each number from 0 on"),
        ({"-1": "no", "0": "yes"}, "it must map each number from 0 on"),
        ({"0": ["no"], "1": "yes"}, "every name must be text"),
        ({"0": "", "1": "yes"}, "every name must be text"),
    ],
)
def test_labels_that_nobody_can_use_are_refused(labels: object, message: str, classifier: Path) -> None:
    edit_json(classifier / "config.json", id2label=labels)
    with pytest.raises(InputError, match=rf"trained: config\.json.*{message}"):
        load_config(str(classifier))


def test_kinds_and_problem_types_that_nobody_knows_are_refused(classifier: Path) -> None:
    for kinds in ([None], "BertForSequenceClassification", 7):
        edit_json(classifier / "config.json", architectures=kinds)
        with pytest.raises(InputError, match=r"config\.json: architectures is .*; it must be a list of class names"):
            load_config(str(classifier))
    edit_json(classifier / "config.json", architectures=["BertForSequenceClassification"])
    edit_json(classifier / "config.json", problem_type="binary")
    with pytest.raises(InputError, match=r"config\.json: problem_type is 'binary'; it must be one of"):
        load_config(str(classifier))
    edit_json(classifier / "config.json", problem_type="regression")
    with pytest.raises(InputError, match=r"trained: a regression of 2 outputs"):
        load_classifier(str(classifier), LABELS)


def test_one_output_is_a_regression_and_one_class_is_refused(tables: Tables, pretrained: Path, tmp_path: Path) -> None:
    config = tiny_config()
    config.num_labels = 1
    assert labels_of(config) == Labels(("score",), "regression")
    for table in tables.values():
        write_rows(table, [{**row, "label": "same"} for row in make_rows(12)])
    task, message = make_task(tables, pretrained, CUT), r"the task has the classes \['same'\], a classifier needs two"
    with pytest.raises(InputError, match=message):
        script("experiments/check_task.py").main(task=task)
    with pytest.raises(InputError, match=message):
        train_teacher(tmp_path, task, read_method("vanilla"))
    with pytest.raises(InputError, match=message):
        distill(tmp_path / "s", task, read_method("vanilla"), teacher=str(pretrained), domain="books")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", POINTER, r"model\.safetensors is a pointer of Git LFS.*git lfs pull"),
        ("tokenizer.json", POINTER, r"tokenizer\.json is a pointer of Git LFS"),
        ("model.safetensors", None, r"model\.safetensors is damaged or cut short"),
        ("tokenizer.json", None, r"no tokenizer .*tokenizer\.json is damaged or cut short"),
        ("config.json", None, r"no model .*config\.json is damaged or cut short"),
        ("config.json", b"[]", r"no model could be loaded .*config\.json is missing or empty"),
        ("config.json", b"\xff\xfe", r"config\.json is damaged"),
        ("metakd.json", None, r"metakd\.json is damaged or cut short"),
        ("metakd.json", b"[]", r"metakd\.json does not say how a model was trained: it holds no mapping"),
        ("metakd.json", b'{"domains": []}', "max_length is missing"),
        ("metakd.json", b'{"domains": [1], "max_length": 9}', r"domains is \[1\]"),
        ("metakd.json", b'{"domains": [], "max_length": 9, "new": 1}', "nobody knows its new"),
        ("domain_head.safetensors", None, r"domain_head\.safetensors is damaged or cut short"),
    ],
)
def test_damaged_files_are_named(file: str, content: bytes | None, message: str, classifier: Path) -> None:
    path = classifier / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    with pytest.raises(InputError, match=message) as error:
        load_domain_head(classifier, 16)
        load_trained_classifier(classifier, None, Accelerator(cpu=True))
    assert str(classifier) in str(error.value)


def test_whatever_a_library_raises_is_explained() -> None:
    class PanicException(BaseException):  # as libraries in Rust raise it
        pass

    message = r"no model could be loaded from 'org/name' .*the Hub was asked.*: PanicException: index"
    with pytest.raises(InputError, match=message), reading("org/name", "model"):
        raise PanicException("index out of bounds")
    full, denied = OSError(errno.ENOSPC, "disk full"), PermissionError(errno.EACCES, "denied")
    in_rust = RuntimeError(f"io error: {os.strerror(errno.ENOSPC)} (os error 28)")
    for error in (KeyboardInterrupt(), Interrupted(2), MemoryError(), torch.OutOfMemoryError(), full, denied, in_rust):
        with pytest.raises(type(error)), reading("org/name", "model"):
            raise error


def test_missing_files_and_quantised_weights_are_named(encoder: Save) -> None:
    folder = encoder()
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match="the tokenizer has special tokens and no words"):
        load_tokenizer(str(folder))
    edit_json(folder / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    with pytest.raises(InputError, match=r"config\.json is of quantised weights"):
        load_encoder(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing or empty"):
        load_encoder(str(folder))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_checkpoints_compute_in_fp32(dtype: torch.dtype, encoder: Save, tmp_path: Path) -> None:
    folder = encoder()
    AutoModel.from_pretrained(folder).to(dtype).save_pretrained(folder)
    edit_weights(folder, lambda w: {n: t * (300 if n.endswith("dense.weight") else 1) for n, t in w.items()})
    write_rows(tmp_path / "t.tsv", make_rows(4))
    model, tokenizer = load_with_tokenizer(str(folder), None, 32)
    embeddings = embed(model, encode(tmp_path / "t.tsv", tokenizer, 32).batch(np.arange(4)))
    assert embeddings.dtype == torch.float32 and bool(embeddings.isfinite().all())
    assert load_classifier(str(folder), LABELS).dtype == torch.float32


def test_values_that_are_not_finite_name_their_row(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.tsv", make_rows(4))
    rows, model = encode(tmp_path / "t.tsv", make_tokenizer(), 32), torch.nn.Linear(1, 1)
    spoil = lambda batch: torch.where(batch["input_ids"].sum(1, keepdim=True) > 0, torch.inf, 0)  # noqa: E731
    with pytest.raises(InputError, match="predicting: Linear gives NaN or infinity for row '0-"):
        list(infer_batches(rows, model, spoil, Accelerator(cpu=True), "predicting"))
    broken = AutoModelForSequenceClassification.from_config(tiny_config())
    torch.nn.init.constant_(broken.classifier.bias, torch.nan)
    with pytest.raises(InputError, match=r"classifier\.bias of the model holds NaN .* lower the learning rate"):
        save_model(tmp_path / "m", broken, make_tokenizer(), ModelInfo([], 32), {})
    broken.classifier.reset_parameters()
    with pytest.raises(InputError, match=r"dense\.weight of domain_head holds NaN"):
        save_model(tmp_path / "m", broken, make_tokenizer(), ModelInfo([], 32), {"domain_head": overflowing_head()})
    assert not (tmp_path / "m").exists()


def overflowing_head() -> DomainHead:
    head = DomainHead(16, 1)
    torch.nn.init.constant_(head.dense.weight, torch.inf)
    return head


@pytest.fixture
def overflowing(tmp_path: Path) -> Path:
    """A teacher of finite weights that gives NaN for rows with the word "awful"."""
    folder = make_random_teacher(tmp_path / "teacher")
    number = make_tokenizer().convert_tokens_to_ids("awful")

    def spoil(weights: Weights) -> Weights:
        weights["bert.embeddings.word_embeddings.weight"][number] = 3e38
        return weights

    edit_weights(folder, spoil)
    return folder


def awful(table: Path) -> str:
    """A pattern of the guids that rows with the word "awful" have."""
    return "|".join(row["guid"] for row in read_rows(table) if "awful" in row["text_a"].split())


def test_a_teacher_that_overflows_is_named_with_its_row(
    overflowing: Path, tables: Tables, tmp_path: Path, pretrained: Path
) -> None:
    with pytest.raises(InputError, match=rf"predicting: {overflowing} gives NaN .* row '({awful(tables['test'])})'"):
        script("experiments/predict.py").main(model=overflowing, table=tables["test"], out=tmp_path / "answers.tsv")
    task = make_task(tables, pretrained, StudentFromTeacher(2, of="pretrained"))
    with pytest.raises(InputError, match=rf"teacher logits: {overflowing} gives NaN .*look at the row's text"):
        distill(tmp_path / "s", task, read_method("vanilla"), teacher=str(overflowing), domain="books")
    assert not (tmp_path / "answers.tsv").exists() and not (tmp_path / "s").exists()


@pytest.mark.parametrize("cached", [True, False])
def test_features_that_overflow_are_named_with_their_row(
    cached: bool, overflowing: Path, tables: Tables, tmp_path: Path
) -> None:
    task = make_task(tables, overflowing, "")
    teacher = load_teacher(str(overflowing), task, TASK_LABELS, DOMAINS, torch.device("cpu"))
    rows = encode(tables["train"], teacher.tokenizer, 32, TASK_LABELS, DOMAINS).of_domain(0)
    wanted, accelerator = [("hidden", 2), ("attention_scores", 1)], Accelerator(cpu=True)
    enable_reading(teacher.model)
    with pytest.raises(
        InputError, match=rf"teacher features: {overflowing} gives NaN .* row '({awful(tables['train'])})'"
    ):
        if cached:
            CachedTeacherOutputs(None, teacher, wanted, rows, tmp_path / "cache", 1e9, accelerator).start()
        else:
            outputs = TeacherOutputs(None, teacher, wanted, rows)
            for i in range(len(rows)):
                outputs(np.array([i]), rows.batch(np.array([i])))


def test_a_run_that_diverges_in_its_last_step_is_not_saved(
    tables: Tables, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("method", "stage"):  # which refuse such a learning rate
        monkeypatch.setattr(f"metakd.methods.{module}.check_fields", lambda *_: None)
    task, method = make_task(tables, pretrained, StudentFromTeacher(2)), read_method("vanilla", teacher_epochs=1)
    task.training.batch_size, method.teacher.learning_rate = 48, 1e38  # one step
    with pytest.raises(InputError, match=r"dev: .* gives NaN .*bert.* does too, so training diverged; lower the"):
        train_teacher(tmp_path, task, method)
    for stage in method.stages:
        stage.select, stage.epochs, stage.learning_rate = "last", 1, 1e38
    tables["dev"].unlink()  # nothing is scored
    teacher = make_random_teacher(tmp_path / "random")
    with pytest.raises(InputError, match=r"the trained model is not saved: bert.* holds NaN or infinity"):
        distill(tmp_path / "s", task, method, teacher=str(teacher), domain="books")
    assert not (tmp_path / "teacher").exists() and not (tmp_path / "s").exists()


def gpt2(folder: Path, pad: int | None) -> Path:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=25, n_embd=16, n_layer=2, n_head=2, n_positions=66, pad_token_id=pad)
    AutoModel.from_config(config).save_pretrained(folder)
    make_tokenizer(types=False).save_pretrained(folder)
    return folder


def test_padding_of_causal_models(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"alone and padded .*pad_token_id is 7 in config\.json and 0 in the"):
        load_with_tokenizer(str(gpt2(tmp_path / "other", 7)), LABELS, 32)
    model, tokenizer = load_with_tokenizer(str(gpt2(tmp_path / "none", None)), LABELS, 32)
    assert model.config.pad_token_id == 0
    try_features(model, tokenizer, 32, [("hidden", 1)], None, "gpt2")
    enable_reading(model)
    with pytest.raises(InputError, match="GPT2Attention is causal"):  # which a padded batch does not show
        try_features(model, tokenizer, 32, [("attention_scores", 1)], None, "gpt2")


def test_a_tokenizer_that_pads_left_gives_the_same_logits(classifier: Path, tmp_path: Path) -> None:
    """Whatever side the files name: a row's logits alone are its logits in a batch, and the saved tokenizer agrees."""
    edit_json(classifier / "tokenizer_config.json", padding_side="left")
    trained, accelerator = load_trained_classifier(classifier, None, Accelerator(cpu=True)), Accelerator(cpu=True)
    write_rows(tmp_path / "t.tsv", make_rows(8))
    rows = trained.encode_texts(tmp_path / "t.tsv")
    together = predict_logits(trained.model, rows, accelerator)
    alone = [predict_logits(trained.model, rows.select(np.array([i])), accelerator)[0] for i in range(8)]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert trained.tokenizer.padding_side == "right"


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_encoder_decoders_are_refused_in_plain_words(kind: str, tmp_path: Path) -> None:
    AutoModel.from_config(families.tiny(kind)).save_pretrained(tmp_path)
    make_tokenizer(types=False).save_pretrained(tmp_path)
    for labels in (LABELS, None):
        with pytest.raises(InputError, match=rf"is an encoder-decoder \({kind}\).*name an encoder"):
            load_with_tokenizer(str(tmp_path), labels, 32)


def test_token_types_and_ids_beyond_the_model_are_refused() -> None:
    config = tiny_config("roberta")
    config.type_vocab_size = 1
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(InputError, match="m: the tokenizer makes token types up to 1, the model has 1"):
        try_model(model, make_tokenizer(), 32, "m")
    assert model.training  # as before
    try_model(model, make_tokenizer(types=False), 32, "m")


def test_sizes_that_a_family_derives_follow_the_width() -> None:
    config = student_config(FreshStudent(24, 2, heads=4), families.tiny("deberta-v2"), LABELS)
    assert (config.hidden_size, config.pooler_hidden_size) == (24, 24)
    config = student_config(FreshStudent(24, 2, heads=2), tiny_config("electra"), LABELS)
    assert (config.hidden_size, config.embedding_size) == (24, 8)  # a bottleneck stays
    config = student_config(FreshStudent(24, 2), families.tiny("llama"), LABELS)
    assert (config.head_dim, config.num_key_value_heads, config.vocab_size) == (6, 2, 30)
    one_head = families.tiny("llama")
    one_head.num_attention_heads, one_head.head_dim = 1, one_head.hidden_size
    assert student_config(FreshStudent(24, 2, heads=4), one_head, LABELS).head_dim == 6
    deberta = families.tiny("deberta-v2")
    deberta.num_hidden_layers, deberta.pos_att_type = 2, ["p2c", "c2p"]
    assert student_config(StudentFromTeacher([2]), deberta, LABELS).pos_att_type == ["p2c", "c2p"]
    source = families.tiny("longformer")
    source.attention_window = [2, 4, 6, 8]
    assert student_config(StudentFromTeacher([1, 3]), source, LABELS).attention_window == [2, 6]


def test_check_task_refuses_what_distil_would(tables: Tables, tmp_path: Path) -> None:
    check = script("experiments/check_task.py").main
    folder = tmp_path / "albert"
    torch.manual_seed(0)
    AutoModel.from_config(families.tiny("albert")).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    task = make_task(tables, folder, FreshStudent(16, 2))
    check(task=task, method=read_method("vanilla"))
    with pytest.raises(InputError, match="no list of 4 layers was found"):
        check(task=task, method=read_method("tinybert"))
    with pytest.raises(InputError, match="5 heads do not divide hidden_size 16"):
        check(task=make_task(tables, folder, FreshStudent(16, 2, heads=5)), method=read_method("vanilla"))
    causal = make_task(tables, gpt2(tmp_path / "gpt2", 0), StudentFromTeacher(1))
    check(task=causal, method=read_method("vanilla"))
    with pytest.raises(InputError, match="is causal, has grouped heads or adds a bias"):
        check(task=causal, method=read_method("tinybert"))
    scale = make_task(tables, folder, FreshStudent(16, 2), max_length=131)
    with pytest.raises(InputError, match=r"max_length is 131, but .* has 130 positions"):
        check(task=scale, method=read_method("vanilla"))


@pytest.mark.parametrize("family", ["bert", "albert", "deberta-v2", "canine", "llama", "bart", "xlnet"])
def test_the_table_of_families_is_what_the_dry_run_says(family: str, tmp_path: Path) -> None:
    failures = families.try_family(family, tmp_path)
    cells = " | ".join("no" if failures[column] else "yes" for column in families.COLUMNS)
    assert f"| {family} | {cells} |" in (ROOT / "docs/families.md").read_text()


def test_info_of_another_model_is_kept(classifier: Path) -> None:
    assert load_info(classifier) == ModelInfo(["books"], 32)
