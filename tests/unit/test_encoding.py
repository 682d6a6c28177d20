"""Token ids of a table, and how tokenizers are compared."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import normalizers
from transformers.models.bert_japanese import BertJapaneseTokenizer  # written in Python

from metakd.data.encoding import EncodedRows, encode
from metakd.data.tables import write_rows
from metakd.data.tokenizers import same_tokens, tokenizer_hash
from tests.conftest import make_rows, make_tokenizer

PAIRS = [{**row, "text_b": "very good"} if i == 1 else row for i, row in enumerate(make_rows(6))]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Six rows; the second has a text_b."""
    write_rows(tmp_path / "table.tsv", PAIRS)
    return tmp_path / "table.tsv"


@pytest.fixture
def rows(table: Path) -> EncodedRows:
    return encode(table, make_tokenizer(), 32)


def test_pairs_and_single_rows_may_share_a_table(table: Path, rows: EncodedRows) -> None:
    tokenizer = make_tokenizer()
    for i, row in enumerate(PAIRS):
        expected = tokenizer(row["text_a"], row["text_b"] or None)
        assert rows.tokens[i]["input_ids"] == expected["input_ids"]
        assert rows.tokens[i]["token_type_ids"] == expected["token_type_ids"]
    assert "token_type_ids" not in encode(table, make_tokenizer(types=False), 32).tokens.column_names


def test_a_batch_is_padded_like_the_tokenizer_pads(rows: EncodedRows) -> None:
    numbers, tokenizer = np.array([4, 1, 0]), make_tokenizer()
    batch = rows.batch(numbers)
    expected = tokenizer.pad([tokenizer(PAIRS[i]["text_a"], PAIRS[i]["text_b"] or None) for i in numbers])
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert batch[name].tolist() == expected[name], name
    content = [[int(i not in (0, 2)) for i in ids] for ids in expected["input_ids"]]  # neither [PAD] nor [CLS]
    assert batch["content_mask"].tolist() == content


def test_used_ids_are_those_of_the_rows_and_padding(rows: EncodedRows) -> None:
    assert rows.used_ids().tolist() == sorted({0, *(i for ids in rows.tokens["input_ids"] for i in ids)})
    some = rows.select(np.array([5, 2]))
    assert some.used_ids().tolist() == sorted({0, *(i for ids in some.tokens["input_ids"] for i in ids)})
    assert len(some.used_ids()) < len(rows.used_ids())


def test_tokenizers_are_compared_by_the_ids_that_they_make() -> None:
    assert same_tokens(make_tokenizer(), make_tokenizer(types=False))
    larger = make_tokenizer()
    larger.add_tokens(["café"])
    assert not same_tokens(make_tokenizer(), larger)
    cased, lower = make_tokenizer(), make_tokenizer()
    cased.backend_tokenizer.normalizer = normalizers.NFC()
    for tokenizer in (cased, lower):
        tokenizer.add_tokens(["café"])
    assert not same_tokens(cased, lower)


def test_the_cache_follows_all_that_decides_the_ids(table: Path) -> None:
    tokenizer = make_tokenizer()
    plain = encode(table, tokenizer, 6).tokens["input_ids"][:]
    same = tokenizer_hash(tokenizer)
    tokenizer("a text", truncation=True, max_length=3)  # leaves its truncation in the tokenizer
    assert tokenizer_hash(tokenizer) == same == tokenizer_hash(make_tokenizer())
    tokenizer.truncation_side = "left"
    assert tokenizer_hash(tokenizer) != same
    assert encode(table, tokenizer, 6).tokens["input_ids"][:] != plain


def test_a_tokenizer_in_python_is_known_by_its_settings(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "caf\u00e9", "Caf\u00e9", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), "utf-8")

    def hashed(**settings: bool) -> str:
        return tokenizer_hash(BertJapaneseTokenizer(str(tmp_path / "vocab.txt"), **settings))

    assert hashed(do_lower_case=False) == hashed(do_lower_case=False) != hashed(do_lower_case=True)
    before = hashed()
    (tmp_path / "vocab.txt").write_text("\n".join([*words[:-2], words[-1], words[-2]]), "utf-8")
    assert hashed() != before
