import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models

from metakd.data.labels import Labels
from metakd.errors import InputError
from metakd.models.classifier import load_classifier
from metakd.models.folders import ModelInfo, save_model
from metakd.models.vocabulary import kept_words, trim_tokenizer
from tests.conftest import run_script

LETTERS = [*"abdefglnoprtu", *(f"##{letter}" for letter in "abdefglnoprtu")]
WORDS = ["[PAD]", "aaa", "bbb", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ccc", "good", "great", "bad", "##ly"]
VOCABULARY = [*WORDS, *LETTERS]


def bert_tokenizer() -> transformers.PreTrainedTokenizerBase:
    return transformers.BertTokenizer(vocab={word: i for i, word in enumerate(VOCABULARY)})


def test_texts_of_the_kept_words_are_the_same_tokens_and_others_are_spelled() -> None:
    whole = bert_tokenizer()
    used = np.unique(np.concatenate([whole(text)["input_ids"] for text in ("good bad", "badly")]))
    kept = kept_words(whole, used)
    assert sorted(set(VOCABULARY) - {VOCABULARY[i] for i in kept}) == ["aaa", "bbb", "ccc", "great"]
    trimmed = trim_tokenizer(whole, kept)
    assert len(trimmed) == len(kept)
    for texts in (("Good, badly?",), ("bad", "good good")):
        one, other = whole(*texts), trimmed(*texts)
        assert trimmed.convert_ids_to_tokens(other["input_ids"]) == whole.convert_ids_to_tokens(one["input_ids"])
        assert other["token_type_ids"] == one["token_type_ids"]
        assert [int(kept[i]) for i in other["input_ids"]] == one["input_ids"]
    assert trimmed.tokenize("great") == ["g", "##r", "##e", "##a", "##t"]
    assert (trimmed.pad_token, trimmed.pad_token_id) == ("[PAD]", 0)


def test_special_tokens_of_several_post_processors_are_numbered_anew() -> None:
    whole = bert_tokenizer()
    state = json.loads(whole.backend_tokenizer.to_str())
    state["post_processor"] = {"type": "Sequence", "processors": [state["post_processor"]]}
    several = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), **whole.special_tokens_map
    )
    kept = kept_words(several, np.array(whole("good")["input_ids"]))
    trimmed = trim_tokenizer(several, kept)
    assert [int(kept[i]) for i in trimmed("good")["input_ids"]] == whole("good")["input_ids"]


def test_a_vocabulary_of_merges_is_refused() -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, [])))
    with pytest.raises(InputError, match="BPE"):
        kept_words(tokenizer, np.array([0]))


def test_script_leaves_a_plain_classifier_that_predicts_the_same(
    tmp_path: Path, tables: dict[str, Path], encoder: Callable[..., Path]
) -> None:
    labels, source, out = Labels(("negative", "positive")), tmp_path / "source", tmp_path / "out"
    torch.manual_seed(1)
    tokenizer = bert_tokenizer()
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        pad_token_id=0, max_position_embeddings=66, initializer_range=0.3,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(source)
    model = load_classifier(str(source), labels)
    save_model(source, model, tokenizer, ModelInfo(["books"], 32), {})
    done = run_script(
        tmp_path, "experiments/trim_vocabulary.py", "--model", source, "--table", tables["train"], "--out", out
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(VOCABULARY)} -> " in done.stdout
    kept = json.loads((out / "config.json").read_text())["vocab_size"]
    assert kept < len(VOCABULARY)
    by = [transformers.pipeline("text-classification", model=str(folder)) for folder in (source, out)]
    assert by[1].model.num_parameters() == by[0].model.num_parameters() - (len(VOCABULARY) - kept) * 16
    for text in ("the good book", "a bad plot", "awful"):
        one, other = (pipe(text)[0] for pipe in by)
        assert one["label"] == other["label"] and other["score"] == pytest.approx(one["score"], abs=1e-5)
    again = run_script(
        tmp_path, "experiments/trim_vocabulary.py", "--model", source, "--table", tables["train"], "--out", out
    )
    assert "finished before" in again.stderr
