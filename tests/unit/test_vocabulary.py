import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models

from metakd.data.labels import Labels
from metakd.errors import InputError
from metakd.models.loading import load_classifier
from metakd.models.model_io import ModelInfo, load_info, save_model
from metakd.models.vocabulary import ids_to_keep, trim_tokenizer
from tests.conftest import run_script

LETTERS = [*"abdefglnoprtu", *(f"##{letter}" for letter in "abdefglnoprtu")]
WORDS = ["[PAD]", "aaa", "bbb", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ccc", "good", "great", "bad", "##ly"]
VOCABULARY = [*WORDS, *LETTERS]


def bert_tokenizer() -> transformers.PreTrainedTokenizerBase:
    return transformers.BertTokenizer(vocab={word: i for i, word in enumerate(VOCABULARY)})


def test_used_tokens_stay_and_other_words_are_spelled() -> None:
    tokenizer = bert_tokenizer()
    used = np.unique(np.concatenate([tokenizer(text)["input_ids"] for text in ("good bad", "badly")]))
    ids = ids_to_keep(tokenizer, used)
    assert sorted(set(VOCABULARY) - {VOCABULARY[i] for i in ids}) == ["aaa", "bbb", "ccc", "great"]
    trimmed = trim_tokenizer(tokenizer, ids)
    assert len(trimmed) == len(ids)
    for texts in (("Good, badly?",), ("bad", "good good")):
        before, after = tokenizer(*texts), trimmed(*texts)
        assert trimmed.convert_ids_to_tokens(after["input_ids"]) == tokenizer.convert_ids_to_tokens(before["input_ids"])
        assert after["token_type_ids"] == before["token_type_ids"]
        assert [int(ids[i]) for i in after["input_ids"]] == before["input_ids"]
    assert trimmed.tokenize("great") == ["g", "##r", "##e", "##a", "##t"]
    assert (trimmed.pad_token, trimmed.pad_token_id) == ("[PAD]", 0)


def test_special_tokens_of_several_post_processors_get_new_ids() -> None:
    tokenizer = bert_tokenizer()
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["post_processor"] = {"type": "Sequence", "processors": [state["post_processor"]]}
    sequence = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), **tokenizer.special_tokens_map
    )
    ids = ids_to_keep(sequence, np.array(tokenizer("good")["input_ids"]))
    trimmed = trim_tokenizer(sequence, ids)
    assert [int(ids[i]) for i in trimmed("good")["input_ids"]] == tokenizer("good")["input_ids"]


def test_a_vocabulary_of_merges_is_refused() -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, [])))
    with pytest.raises(InputError, match="BPE"):
        ids_to_keep(tokenizer, np.array([0]))


def test_script_writes_a_plain_classifier_that_predicts_the_same(tmp_path: Path, tables: dict[str, Path]) -> None:
    labels, source, out = Labels(("negative", "positive")), tmp_path / "source", tmp_path / "out"
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        pad_token_id=0, max_position_embeddings=66, initializer_range=0.3,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(source)
    info = ModelInfo(["books"], 32, starts_from="random weights", notes=["a note"])
    save_model(source, load_classifier(str(source), labels), bert_tokenizer(), info, {})

    def trim() -> subprocess.CompletedProcess[str]:
        arguments = ("--model", source, "--table", tables["train"], "--out", out)
        return run_script(tmp_path, "experiments/trim_vocabulary.py", *arguments)

    done = trim()
    assert done.returncode == 0, done.stderr
    assert f"{len(VOCABULARY)} -> " in done.stdout
    tokens = json.loads((out / "config.json").read_text())["vocab_size"]
    assert tokens < len(VOCABULARY) and load_info(out) == info
    before, after = (transformers.pipeline("text-classification", model=str(folder)) for folder in (source, out))
    assert after.model.num_parameters() == before.model.num_parameters() - (len(VOCABULARY) - tokens) * 16
    for text in ("the good book", "a bad plot", "awful"):
        one, other = before(text)[0], after(text)[0]
        assert one["label"] == other["label"] and other["score"] == pytest.approx(one["score"], abs=1e-5)
    assert "finished before" in trim().stderr
