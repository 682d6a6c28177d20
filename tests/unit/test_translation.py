"""Translation: losses against loops and formulas, rows, targets, search, scores, tables from parallel files."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import torch
import torch.nn.functional as F
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from metakd.config import Training
from metakd.data.formats import read, write
from metakd.data.line_files import read_lines
from metakd.data.tables import Row, read_rows, write_rows
from metakd.errors import InputError
from metakd.evaluation.resampling import bleu
from metakd.models.model_io import ModelInfo, save_model
from metakd.settings_files import parse_settings
from metakd.training.loop import fit
from metakd.training.runtime import start
from metakd.translation.evaluation import bleu_rows, compare, read_best, scores, scores_by_domain
from metakd.translation.losses import smoothed_cross_entropy, token_kl
from metakd.translation.models import (
    cut_translator,
    fresh_translator,
    load_translator,
    target_logits,
    try_translator,
)
from metakd.translation.rows import EncodedPairs, encode_pairs, require_whole, whole
from metakd.translation.search import hypotheses_of_batch, read_translations, translate_rows
from metakd.translation.settings import (
    SOURCES,
    TRANSLATION_COLUMNS,
    FreshTranslator,
    TokenTerm,
    TranslationMethod,
    TranslationTask,
    TranslatorFromTeacher,
)
from metakd.translation.targets import target_rows
from metakd.translation.tokenizer import joint_tokenizer
from metakd.translation.training import TranslationJob, require_one_vocabulary
from tests.conftest import ROOT, read_yaml, script

SYNTHETIC, PARALLEL = script("data_prep/synthetic_translation.py"), script("data_prep/parallel_text.py")
LABEL = TokenTerm("label", label_smoothing=0.1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables and tokenizer of the made-up languages."""
    out = tmp_path_factory.mktemp("made") / "tables"
    SYNTHETIC.main(out, train=60, dev=20, test=20, vocabulary=200)
    return out


@pytest.fixture(scope="module")
def tokenizer(made: Path) -> PreTrainedTokenizerBase:
    from metakd.models.loading import load_tokenizer

    return load_tokenizer(str(made / "tokenizer"))


@pytest.fixture
def pairs(made: Path, tokenizer: PreTrainedTokenizerBase) -> EncodedPairs:
    return encode_pairs(made / "train.tsv", tokenizer, 128)


def tiny(tokenizer: PreTrainedTokenizerBase, layers: int = 1, seed: int = 1, dropout: float = 0.0) -> PreTrainedModel:
    return fresh_translator(FreshTranslator(16, layers, heads=2, dropout=dropout), tokenizer, seed)


def test_label_smoothing_is_fairseqs_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(3, 4, 7, generator=generator), torch.randint(7, (3, 4), generator=generator)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    eps, expected = 0.1, torch.zeros(3)
    for row in range(3):
        for place in range(4):
            if mask[row, place]:
                negative = [-float(value) for value in logits[row, place].log_softmax(-1)]
                each = eps / (7 - 1)
                nll = negative[int(target[row, place])]
                expected[row] += (1 - eps - each) * nll + each * sum(negative)
    torch.testing.assert_close(smoothed_cross_entropy(logits, target, mask, eps), expected)
    plain = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    torch.testing.assert_close(smoothed_cross_entropy(logits, target, mask), (plain * mask).sum(1))
    # torch gives eps / V to each token, so its formula with eps V / (V - 1) is the same.
    library = F.cross_entropy(logits.transpose(1, 2), target, reduction="none", label_smoothing=eps * 7 / 6)
    torch.testing.assert_close(smoothed_cross_entropy(logits, target, mask, eps), (library * mask).sum(1))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_word_level_distillation_is_a_sum_over_tokens(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 5, generator=generator)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    expected = torch.zeros(2)
    for row, place in [(0, 0), (0, 1), (0, 2), (1, 0)]:
        p = [math.exp(float(v)) for v in (teacher[row, place] / temperature).log_softmax(-1)]
        q = [math.exp(float(v)) for v in (student[row, place] / temperature).log_softmax(-1)]
        expected[row] += temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    torch.testing.assert_close(token_kl(student, teacher, mask, temperature), expected)
    assert token_kl(teacher, teacher, mask, temperature).abs().max() < 1e-6


def test_more_padding_gives_the_same_losses(pairs: EncodedPairs, tokenizer: PreTrainedTokenizerBase) -> None:
    model = tiny(tokenizer).eval()
    alone = [pairs.batch(np.array([row])) for row in range(4)]
    together = pairs.batch(np.arange(4))

    def loss(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = target_logits(model, batch, model.config.decoder_start_token_id)
        return smoothed_cross_entropy(logits, batch["target"], batch["target_mask"], 0.1)

    torch.testing.assert_close(loss(together), torch.cat([loss(batch) for batch in alone]))
    own = model(input_ids=alone[0]["input_ids"], labels=alone[0]["target"]).loss  # transformers' own shift
    nll = smoothed_cross_entropy(
        target_logits(model, alone[0], model.config.decoder_start_token_id), alone[0]["target"], alone[0]["target_mask"]
    )
    torch.testing.assert_close(own * alone[0]["target_mask"].sum(), nll[0])


def job(
    model: PreTrainedModel, rows: EncodedPairs, tokenizer: PreTrainedTokenizerBase, terms: list[TokenTerm],
    teacher: PreTrainedModel | None = None,
) -> TranslationJob:  # fmt: skip
    method = TranslationMethod(terms, epochs=2, learning_rate=1e-2)
    return TranslationJob(model, rows, rows.select(np.arange(8)), method, tokenizer, start("fp32"), teacher)


def test_two_micro_batches_are_one_batch_and_the_teacher_stays_as_it_is(
    pairs: EncodedPairs, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    teacher = tiny(tokenizer, 2, seed=2, dropout=0.3)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    terms = [TokenTerm("label", 0.5), TokenTerm("logits", 0.5)]
    losses = []
    for number, micro in enumerate([None, 5]):
        training = Training(max_tokens=400, micro_batch_size=micro, precision="fp32", log_with=[])
        student = job(tiny(tokenizer), pairs, tokenizer, terms, teacher)
        losses.append(fit(student, start("fp32"), 2, 1e-2, training, tmp_path / str(number)).losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0][-1] < losses[0][0]
    assert not teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_word_level_distillation_from_itself_is_zero(pairs: EncodedPairs, tokenizer: PreTrainedTokenizerBase) -> None:
    model = tiny(tokenizer)
    student = job(model, pairs, tokenizer, [TokenTerm("logits")], tiny(tokenizer))
    losses = student.objective(*student.inputs(np.arange(6), torch.device("cpu")))
    assert losses["logits"].abs().max() < 1e-4


def test_a_loss_is_divided_by_the_tokens_of_the_step(
    pairs: EncodedPairs, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    student = job(tiny(tokenizer), pairs, tokenizer, [LABEL])
    training = Training(batch_size=len(pairs), precision="fp32", log_with=[], warmup=0)
    with torch.no_grad():
        losses = student.objective(*student.inputs(np.arange(len(pairs)), torch.device("cpu")))["label"]
    expected = float(losses.sum()) / pairs.target_lengths.sum()
    assert fit(student, start("fp32"), 1, 1e-3, training, tmp_path).losses[0] == pytest.approx(expected, rel=1e-5)


def test_the_last_epochs_are_averaged(pairs: EncodedPairs, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    states = []
    for number, (epochs, average) in enumerate([(3, 1), (3, 2)]):
        student = job(tiny(tokenizer), pairs, tokenizer, [LABEL])
        student.keeps_best = False
        training = Training(max_tokens=400, precision="fp32", log_with=[], average_last=average, checkpoint_seconds=0)
        folder = tmp_path / str(number)
        progress = fit(student, start("fp32"), epochs, 1e-2, training, folder)
        assert progress.best is None
        states.append(student.model.state_dict())
    from safetensors.torch import load_file

    second, third = (load_file(tmp_path / "1" / f"epoch-{number}.safetensors") for number in (2, 3))
    name = "model.encoder.layers.0.fc1.weight"
    stored = next(key for key in third if key.endswith(name))
    torch.testing.assert_close(third[stored], states[0][name])
    torch.testing.assert_close((second[stored] + third[stored]) / 2, states[1][name])


def test_rows_that_are_too_long_are_refused_or_left_out(made: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = encode_pairs(made / "train.tsv", tokenizer, 20)
    assert 0 < rows.cut.sum() < len(rows) and rows.lengths.max() == 20
    with pytest.raises(InputError, match=r"row 'made-\d+' has more than 20 tokens \(\d+ of 60 rows do\); raise"):
        require_whole(rows, "t.tsv", 20)
    assert len(whole(rows, "t.tsv")) == len(rows) - rows.cut.sum()
    with pytest.raises(InputError, match=r"all 60 translations are too long, .* train the teacher longer"):
        whole(encode_pairs(made / "train.tsv", tokenizer, 4), "t.tsv")


def test_a_saved_student_is_a_plain_model(tokenizer: PreTrainedTokenizerBase, tmp_path: Path, made: Path) -> None:
    model = tiny(tokenizer, 2).eval()
    save_model(tmp_path / "m", model, tokenizer, ModelInfo([], 64), {})
    loaded = load_translator(str(tmp_path / "m"))
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "m").eval()
    batch = encode_pairs(made / "dev.tsv", tokenizer, 128).batch(np.arange(3))
    start_id = model.config.decoder_start_token_id
    for other in (loaded, plain):
        torch.testing.assert_close(target_logits(other, batch, start_id), target_logits(model, batch, start_id))
    assert plain.generation_config.bad_words_ids == [[tokenizer.pad_token_id]]


def test_special_tokens_in_a_text_are_words(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    labels = [*[""] * 1001, "d </s>"]  # a whole block has none
    rows: list[Row] = [{"guid": str(i), "text_a": "a </s> b <pad> c", "label": label} for i, label in enumerate(labels)]
    write(tmp_path / "t.tsv", rows, ("guid", "text_a", "label"), ".tsv")
    batch = encode_pairs(tmp_path / "t.tsv", tokenizer, 60, SOURCES).batch(np.array([1001]))
    for ids, mask in ((batch["input_ids"], batch["attention_mask"]), (batch["target"], batch["target_mask"])):
        inside = ids[mask.bool()].tolist()
        assert inside.count(tokenizer.eos_token_id) == 1 and tokenizer.pad_token_id not in inside


def test_models_that_cannot_translate_are_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    model = tiny(tokenizer)
    try_translator(model, tokenizer, 2000, "m")  # sinusoidal positions go on
    bart = BartForConditionalGeneration(BartConfig(
        vocab_size=len(tokenizer), d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=20,
        decoder_start_token_id=2,
    ))  # fmt: skip
    try_translator(bart, tokenizer, 20, "m")
    with pytest.raises(InputError, match=r"fails on 40 tokens in a dry run.*lower max_length"):
        try_translator(bart, tokenizer, 40, "m")
    bart.config.decoder_start_token_id = None
    with pytest.raises(InputError, match="no decoder_start_token_id"):
        try_translator(bart, tokenizer, 20, "m")
    model.resize_token_embeddings(50)
    with pytest.raises(InputError, match="embeddings of 50 tokens, but its tokenizer has the id 199"):
        try_translator(model, tokenizer, 20, "m")


def test_logits_need_one_vocabulary(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    other = joint_tokenizer(["quite other words, " + "".join(map(chr, range(97, 123)))] * 20, 40)
    other.save_pretrained(tmp_path / "teacher")
    student, teacher = tiny(tokenizer), tiny(tokenizer)
    with pytest.raises(InputError, match="one of 200 tokens that are not the same"):
        require_one_vocabulary(teacher, student, str(tmp_path / "teacher"), tokenizer)
    tokenizer.save_pretrained(tmp_path / "same")
    require_one_vocabulary(teacher, student, str(tmp_path / "same"), tokenizer)


def test_layers_are_cut_from_the_teacher(tokenizer: PreTrainedTokenizerBase, pairs: EncodedPairs) -> None:
    teacher = tiny(tokenizer, 3)
    student = cut_translator(teacher, TranslatorFromTeacher(2, decoder_layers=1)).eval()
    layers = student.get_encoder().layers
    for mine, number in zip(layers, (0, 2), strict=True):
        assert torch.equal(mine.fc1.weight, teacher.get_encoder().layers[number].fc1.weight)
    assert len(student.get_decoder().layers) == 1 and student.config.decoder_layers == 1
    found = hypotheses_of_batch(student, tokenizer, pairs.batch(np.arange(2)), 2, 2, 12)  # with a cache
    assert [len(one) for one in found] == [2, 2]
    with pytest.raises(InputError, match="4 encoder layers, but the teacher has 3"):
        cut_translator(teacher, TranslatorFromTeacher(4))


@pytest.mark.parametrize("forced", [None, 7])
@pytest.mark.parametrize("beam", [1, 3])
def test_scores_are_those_of_the_tokens_one_by_one(
    pairs: EncodedPairs, tokenizer: PreTrainedTokenizerBase, beam: int, forced: int | None
) -> None:
    """Each token's score is its log-probability after the tokens before it, computed without a batch or a cache."""
    model = tiny(tokenizer).eval()
    model.generation_config.forced_bos_token_id = forced  # as M2M100's language code
    chosen = np.array([0, 3])
    found = hypotheses_of_batch(model, tokenizer, pairs.batch(chosen), beam, beam, 10)
    for row, hypotheses in zip(chosen, found, strict=True):
        source = pairs.batch(np.array([row]))["input_ids"]
        for one in hypotheses:
            ids, expected = [model.config.decoder_start_token_id], []
            for token in tokenizer.convert_tokens_to_ids(one.pieces):
                logits = model(input_ids=source, decoder_input_ids=torch.tensor([ids])).logits[0, -1]
                expected.append(float(logits.log_softmax(-1)[token].detach()))
                ids.append(token)
            assert one.token_scores == pytest.approx(expected, abs=1e-4)
            assert one.score == pytest.approx(np.mean(expected), abs=1e-4)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_forced_end_is_no_end(
    pairs: EncodedPairs, tokenizer: PreTrainedTokenizerBase, beam: int, tmp_path: Path
) -> None:
    model = tiny(tokenizer)
    with torch.no_grad():
        model.get_output_embeddings().weight[tokenizer.eos_token_id] = 0.0  # never the likeliest
    model.generation_config.forced_eos_token_id = tokenizer.eos_token_id  # as Marian's and BART's
    model.save_pretrained(tmp_path)
    found = hypotheses_of_batch(load_translator(str(tmp_path)).eval(), tokenizer, pairs.batch(np.arange(4)), beam, 1, 5)
    assert {(one.ended, len(one.pieces)) for (one,) in found} == {(False, 5)}


def test_beam_search_is_that_of_transformers(pairs: EncodedPairs, tokenizer: PreTrainedTokenizerBase) -> None:
    model, batch = tiny(tokenizer, 2).eval(), pairs.batch(np.arange(6))
    torch.manual_seed(1)
    model.lm_head = torch.nn.Linear(16, model.config.vocab_size, bias=False)  # an untied one does not repeat its input
    for attention in (layer.encoder_attn for layer in model.get_decoder().layers):
        torch.nn.init.normal_(attention.out_proj.weight)  # so that sources matter
    found = hypotheses_of_batch(model, tokenizer, batch, 4, 3, 9)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    ids = model.generate(**inputs, num_beams=4, num_return_sequences=3, max_new_tokens=9, early_stopping=True)
    assert len({one.text for row in found for one in row}) > 6
    texts = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    assert [one.text for row in found for one in row] == texts


def test_beam_1_takes_the_likeliest_token_each_time(pairs: EncodedPairs, tokenizer: PreTrainedTokenizerBase) -> None:
    model = tiny(tokenizer).eval()
    ((found,),) = hypotheses_of_batch(model, tokenizer, pairs.batch(np.array([2])), 1, 1, 8)
    ids = [model.config.decoder_start_token_id]
    for _ in range(8):
        logits = model(input_ids=pairs.batch(np.array([2]))["input_ids"], decoder_input_ids=torch.tensor([ids])).logits
        logits[0, -1, tokenizer.pad_token_id] = -math.inf
        ids.append(int(logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    assert tokenizer.convert_tokens_to_ids(found.pieces) == ids[1:]


def test_a_killed_translation_goes_on(pairs: EncodedPairs, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    model, accelerator = tiny(tokenizer), start("fp32")
    translate_rows(tmp_path / "whole", model, tokenizer, pairs, accelerator, 2, 2, 10)
    expected = list(read_translations(tmp_path / "whole", len(pairs)))
    lines = (tmp_path / "whole" / "part-0.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "part-1.jsonl").write_bytes(b"".join(lines[:9]) + lines[9][:20])  # two processes before
    translate_rows(tmp_path / "killed", model, tokenizer, pairs, accelerator, 2, 2, 10)
    assert list(read_translations(tmp_path / "killed", len(pairs))) == expected


def translations(path: Path, rows: list[Row], hypotheses: list[list[str]]) -> Path:
    lines = (
        {"guid": row["guid"], "domain": row["domain"], "source": row["text_a"], "reference": row["label"], "rank": rank,
         "hypothesis": text, "score": -1.0, "ended": "no" if "endless" in text else "yes"}
        for row, texts in zip(rows, hypotheses, strict=True)
        for rank, text in enumerate(texts, 1)
    )  # fmt: skip
    write(path, lines, TRANSLATION_COLUMNS, ".tsv")
    return path


def test_targets(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = list(read_rows(made / "train.tsv"))[:3]
    train = tmp_path / "train.tsv"
    write_rows(train, rows)
    near = [row["label"].replace(".", " indeed.") for row in rows]
    table = translations(tmp_path / "t.tsv", rows, [["far off", near[0]], [near[1], "far off"], ["", "endless"]])
    labels = {
        name: [row["label"] for row in target_rows(train, table, name)] for name in ("teacher", "closest", "both")
    }
    assert labels["teacher"] == ["far off", near[1]]  # a row without a hypothesis that ends is left out
    assert "1 of 3 rows have no translation that ends" in caplog.text
    assert labels["closest"] == near[:2]
    assert labels["both"] == [rows[0]["label"], "far off", rows[1]["label"], near[1], rows[2]["label"]]
    with pytest.raises(InputError, match=r"before their end, .* train the teacher longer"):
        list(target_rows(train, translations(tmp_path / "e.tsv", rows, [["endless"], [""], [""]]), "teacher"))
    other = translations(tmp_path / "o.tsv", rows[1:], [["a"], ["b"]])
    with pytest.raises(InputError, match=r"o.tsv has 'made-2' where row 1 of .* is 'made-1'.*translate this one"):
        list(target_rows(train, other, "teacher"))
    longer = translations(tmp_path / "l.tsv", list(read_rows(made / "train.tsv"))[:4], [["a"]] * 4)
    with pytest.raises(InputError, match="goes on with 'made-4'"):
        list(target_rows(train, longer, "teacher"))


def test_references_as_hypotheses_are_the_references(made: Path, tmp_path: Path) -> None:
    rows = list(read_rows(made / "train.tsv"))
    table = translations(tmp_path / "t.tsv", rows, [[row["label"]] for row in rows])
    assert list(target_rows(made / "train.tsv", table, "teacher")) == rows


def test_scores_are_sacrebleus(made: Path, tmp_path: Path) -> None:
    rows = list(read_rows(made / "test.tsv"))
    good = [[row["label"].replace(".", " indeed."), "ignored"] for row in rows]
    bad = [[row["label"].split(" ", 3)[-1]] for row in rows]
    one, other = (read_best(translations(tmp_path / f"{i}.tsv", rows, texts)) for i, texts in enumerate([good, bad]))
    references = [[row["label"] for row in rows]]
    assert scores(one)["bleu"] == pytest.approx(sacrebleu.corpus_bleu([texts[0] for texts in good], references).score)
    assert scores(one)["bleu_signature"].startswith("nrefs:1|") and scores(one)["length_ratio"] > 1
    baseline, system = compare({"other": other, "one": one}, 200, 1)
    assert baseline["p_value"] is None and system["p_value"] < 0.05 and system["bleu"] > baseline["bleu"]
    with pytest.raises(InputError, match="other is of other rows"):
        compare({"one": one, "other": read_best(translations(tmp_path / "x.tsv", rows[:3], good[:3]))}, 200, 1)


def test_scores_by_domain_and_resampled_bleu_are_sacrebleus(made: Path, tmp_path: Path) -> None:
    rows = list(read_rows(made / "test.tsv"))
    for number, row in enumerate(rows):
        row["domain"] = "ab"[number % 2]
    texts = [[row["label"] if i % 3 else row["label"][: 5 * (i % 4)]] for i, row in enumerate(rows)]
    other = [["nothing that is there"] for _ in rows]
    systems = [read_best(translations(tmp_path / f"{i}.tsv", rows, each)) for i, each in enumerate((texts, other))]
    by_domain = scores_by_domain(systems[0])
    half = [i for i, row in enumerate(rows) if row["domain"] == "b"]
    expected = sacrebleu.corpus_bleu([texts[i][0] for i in half], [[rows[i]["label"] for i in half]])
    assert by_domain["domains"]["b"]["bleu"] == pytest.approx(expected.score)
    measure = bleu(np.array([bleu_rows(system)["bleu"] for system in systems]))
    for drawn in (np.arange(len(rows)), *np.random.default_rng(1).integers(len(rows), size=(3, len(rows)))):
        shares = np.bincount(drawn, minlength=len(rows))[None] / len(rows)
        references = [[rows[i]["label"] for i in drawn]]
        found = [sacrebleu.corpus_bleu([each[i][0] for i in drawn], references).score for each in (texts, other)]
        assert 100 * measure.score(shares)[0] == pytest.approx(found, abs=1e-9)


def test_parallel_files_become_tables(tmp_path: Path) -> None:
    source = "Ein  Hund\u2028läuft.\r\n\nSehr lang a b c d e\nZwei Katzen.\n".encode()
    target = b"A dog runs.\nNothing.\nVery long a b c d e\nTwo cats.\n"
    for name, content in {"a": source, "b": target, "c": b"Eine Katze.\n", "d": b"A cat.\n"}.items():
        (tmp_path / name).write_bytes(content)
    files = {name: tmp_path / name for name in "abcd"}
    PARALLEL.main(
        [files["a"], files["c"], files["c"]], [files["b"], files["d"], files["d"]], tmp_path / "out", max_words=5,
        vocabulary=60,
    )  # fmt: skip
    rows = list(read(tmp_path / "out" / "train.tsv"))
    assert [(row["guid"], row["text_a"], row["label"]) for row in rows] == [
        ("train-1", "Ein  Hund\u2028läuft.", "A dog runs."),
        ("train-4", "Zwei Katzen.", "Two cats."),
    ]
    from metakd.models.loading import load_tokenizer

    tokenizer = load_tokenizer(str(tmp_path / "out" / "tokenizer"))
    ids = tokenizer("A dog runs.")["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id and tokenizer.decode(ids, skip_special_tokens=True) == "A dog runs."
    (tmp_path / "z.gz").write_bytes(gzip.compress(source))
    assert list(read_lines(tmp_path / "z.gz")) == list(read_lines(files["a"]))
    (tmp_path / "z.gz").write_bytes(gzip.compress(source)[:-9])
    with pytest.raises(InputError, match=r"z.gz is damaged"):
        list(read_lines(tmp_path / "z.gz"))
    (tmp_path / "e").write_bytes(b"\n")
    with pytest.raises(InputError, match="e, line 1 is empty; remove it from both files"):
        list(PARALLEL.pair_rows(tmp_path / "e", files["d"], "x", "dev", None))
    with pytest.raises(InputError, match=r"differ: \S*a has 4, \S*d has 1; line i"):
        list(PARALLEL.pair_rows(files["a"], files["d"], "x", "dev", None))


def test_made_up_sources_differ_and_translations_vary(made: Path) -> None:
    rows = [row for name in ("train", "dev", "test") for row in read_rows(made / f"{name}.tsv")]
    assert len({row["text_a"] for row in rows}) == len(rows) == 100
    assert SYNTHETIC.pairs(20, 1) == SYNTHETIC.pairs(20, 1) != SYNTHETIC.pairs(20, 2)


FILES = sorted((ROOT / "experiments/translation").glob("*/*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shipped_files_are_valid(path: Path) -> None:
    kind = TranslationTask if path.parent.name == "tasks" else TranslationMethod
    assert read_yaml(path, kind)


def test_a_misspelt_student_is_no_name_of_a_model() -> None:
    task = ROOT / "experiments/translation/tasks/translation_demo.yaml"
    with pytest.raises(InputError, match=r"is no student; its keys can be .*layers"):
        parse_settings("task", TranslationTask, [f"--task={task}", "--task.student={hidden_size: 8, layer: 2}"])


def test_a_student_is_fresh_or_cut_as_its_fields_say(tmp_path: Path) -> None:
    task = ROOT / "experiments/translation/tasks/translation_demo.yaml"
    cut = tmp_path / "cut.yaml"
    cut.write_text(task.read_text().replace("student: {hidden_size: 64, layers: 1}", "student: {layers: 1}"))
    assert read_yaml(cut, TranslationTask).student == TranslatorFromTeacher(1)
    assert read_yaml(task, TranslationTask).student == FreshTranslator(64, 1)


BUDGET = {"epochs": 1, "learning_rate": 0.1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"terms": []}, "terms are of nothing"),
        ({"terms": [{"feature": "label"}, {"feature": "label"}]}, "once"),
        ({"terms": [{"feature": "label", "temperature": 2.0}]}, "temperature is of logits"),
        ({"terms": [{"feature": "logits", "label_smoothing": 0.1}]}, "label_smoothing is of label"),
    ],
)
def test_senseless_terms_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_settings("method", TranslationMethod, [f"--method={json.dumps({**BUDGET, **change})}"])
