"""Two made-up languages with one grammar, for tests and demonstrations of translation. It is no real text.

The source puts the verb last and adjectives behind nouns, and marks cases by endings; the target has the order subject,
verb, object, with articles and prepositions. A sentence has several translations: each verb has two names, and the
place may come first or last. So references differ where a choice of the teacher does not.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from metakd.cli import run
from metakd.data.tables import Row, write_rows
from metakd.ranges import Count, Seed
from metakd.steps import Step
from metakd.translation.tokenizer import joint_tokenizer

log = logging.getLogger(__name__)
WORDS = {"noun": 40, "adjective": 16, "verb": 24, "place": 12}
CASES = {"subject": "", "object": "mi", "place": "ru"}
SOURCE_SYLLABLES = [first + vowel for first in "kptsnmrlz" for vowel in "aiou"]
TARGET_SYLLABLES = [first + vowel + last for first in "bdfgwv" for vowel in "aeo" for last in ("n", "l", "r", "th")]


def main(
    out: Path = Path("runs/translation_demo/tables"),
    train: Count = 3000,
    dev: Count = 300,
    test: Count = 300,
    vocabulary: Count = 500,
    seed: Seed = 1,
    remake: bool = False,
) -> None:
    """Write train.tsv, dev.tsv, test.tsv and OUT/tokenizer of two made-up languages.

    Args:
        out: folder for the tables and the tokenizer.
        train: pairs to learn from.
        dev: pairs to choose on.
        test: held-out pairs; no source occurs twice in all three.
        vocabulary: tokens of the joint byte-pair tokenizer.
        seed: of words and sentences.
        remake: make the output anew if other code made it.
    """
    sizes = {"train": train, "dev": dev, "test": test}
    step = Step(out, {**sizes, "vocabulary": vocabulary, "seed": seed}, {}, remake=remake)
    if step.finished():
        return
    rows = pairs(sum(sizes.values()), seed)
    with step.workspace() as folder:
        if folder is None:
            return
        start = 0
        for name, size in sizes.items():
            write_rows(folder / f"{name}.tsv", rows[start : start + size])
            start += size
        texts = (text for row in rows[:train] for text in (row["text_a"], row["label"]))
        joint_tokenizer(texts, vocabulary).save_pretrained(folder / "tokenizer")
    log.info("%s", ", ".join(f"{name} {size}" for name, size in sizes.items()))


def pairs(count: int, seed: int) -> list[Row]:
    """So many rows with different sources."""
    generator = np.random.default_rng(seed)
    source, target = lexicons(generator)
    rows: dict[str, Row] = {}
    while len(rows) < count:
        text, translation = sentence(source, target, generator)
        row = {"guid": f"made-{len(rows) + 1}", "text_a": text, "text_b": "", "label": translation, "domain": "made"}
        rows.setdefault(text, row)
    return list(rows.values())


def lexicons(generator: np.random.Generator) -> tuple[dict[str, list[str]], dict[str, list[list[str]]]]:
    """The word of each meaning in the source language, and its names in the target language, by part of speech."""
    total = sum(WORDS.values())
    words = iter(made_words(SOURCE_SYLLABLES, total, generator))
    names = iter(made_words(TARGET_SYLLABLES, total + WORDS["verb"], generator))
    source = {part: [next(words) for _ in range(count)] for part, count in WORDS.items()}
    target = {part: [[next(names) for _ in range(1 + (part == "verb"))] for _ in range(count)]
              for part, count in WORDS.items()}  # fmt: skip
    return source, target


def made_words(syllables: list[str], count: int, generator: np.random.Generator) -> list[str]:
    """So many different words of two or three syllables."""
    words: dict[str, None] = {}
    while len(words) < count:
        words["".join(generator.choice(syllables, int(generator.integers(2, 4))))] = None
    return list(words)


def sentence(
    source: dict[str, list[str]], target: dict[str, list[list[str]]], generator: np.random.Generator
) -> tuple[str, str]:
    """A sentence and one of its translations."""

    def noun_phrase(case: str) -> tuple[list[str], list[str]]:
        part = "place" if case == "place" else "noun"
        number = int(generator.integers(WORDS[part]))
        words, names = [source[part][number] + CASES[case]], [str(generator.choice(target[part][number]))]
        for _ in range(int(generator.integers(0, 3)) if case != "place" else 0):
            adjective = int(generator.integers(WORDS["adjective"]))
            words.append(source["adjective"][adjective] + CASES[case])
            names.insert(0, str(generator.choice(target["adjective"][adjective])))
        return words, ["the", *names]

    verb = int(generator.integers(WORDS["verb"]))
    past = bool(generator.integers(2))
    subject, goal = noun_phrase("subject"), noun_phrase("object")
    words = [*subject[0], *goal[0]]
    names = [*subject[1], str(generator.choice(target["verb"][verb])) + ("ed" if past else "s"), *goal[1]]
    if generator.integers(2):
        place = noun_phrase("place")
        words = [*place[0], *words]
        phrase = ["in", *place[1]]
        names = [*phrase[:-1], f"{phrase[-1]},", *names] if generator.integers(2) else [*names, *phrase]
    words.append(source["verb"][verb] + ("ta" if past else "ne"))
    return " ".join(words) + ".", " ".join(names) + "."


if __name__ == "__main__":
    run(main)
