"""Translate the rows of a table: greedily or by beam search, batch by batch, in an order that a killed run takes up."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from metakd.training.inference import BATCH_SIZE, batches_over
from metakd.translation.rows import Batch, EncodedPairs

LOGITS = 2**27  # numbers, 512 MB
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hypothesis:
    """One translation of a row.

    Args:
        text: of the translation.
        score: mean of the log-probabilities of its tokens, the end of the text included.
        pieces: its tokens as text.
        token_scores: log-probability of each token.
        ended: whether it came to its end before the longest length.
    """

    text: str
    score: float
    pieces: list[str]
    token_scores: list[float]
    ended: bool


class SourceCache(EncoderDecoderCache):
    """A cache for beam search that leaves the keys and values of the source where they are.

    Those of all hypotheses of a source are equal, so reordering them, as transformers does at every token, only copies.
    """

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Reorder what the decoder knows of the hypotheses' own tokens."""
        self.self_attention_cache.reorder_cache(beam_idx)


def generate(model: PreTrainedModel, batch: Batch, beam: int, count: int, max_tokens: int, logits: bool) -> Any:
    """What transformers finds; `sequences` holds a start token and the ids [B * count, L] of each source's best.

    Args:
        beam: width of the search; 1 is greedy.
        count: translations for each source; at most `beam`.
        max_tokens: most tokens of a translation.
        logits: whether to keep those of every step [B * beam, V].
    """
    config = GenerationConfig.from_dict({
        **model.generation_config.to_diff_dict(), "num_beams": beam, "num_return_sequences": count, "do_sample": False,
        "early_stopping": beam > 1, "max_new_tokens": max_tokens, "max_length": None, "length_penalty": 1.0,
        "return_dict_in_generate": True, "output_logits": logits,
    })  # fmt: skip
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    cache = {"past_key_values": SourceCache(DynamicCache(), DynamicCache())} if beam > 1 else {}
    return model.generate(**inputs, **cache, generation_config=config)


def log_probabilities(found: Any) -> Tensor:
    """Of each token that was found [B * count, L], as the model has them, before any rule of the search."""
    rows = getattr(found, "beam_indices", None)  # the hypothesis that each token continues; -1 after the end
    steps = []
    for step, (logits, tokens) in enumerate(zip(found.logits, found.sequences[:, 1:].T, strict=False)):
        chosen = logits if rows is None else logits[rows[:, step].clamp(min=0)]
        steps.append(chosen.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - chosen.logsumexp(-1))
    return torch.stack(steps, 1)


@torch.no_grad()
def hypotheses_of_batch(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Batch, beam: int, count: int, max_tokens: int
) -> list[list[Hypothesis]]:
    """The translations of each row of a batch, the best first."""
    found = generate(model, batch, beam, count, max_tokens, logits=True)
    ids, scores = found.sequences[:, 1:], log_probabilities(found)
    end = tokenizer.eos_token_id
    ended = (ids == end).cumsum(1)
    mask = (ended - (ids == end).long()) == 0  # up to the end of the text, included
    hypotheses = []
    for row, row_mask, row_scores in zip(ids.cpu(), mask.cpu(), scores.cpu(), strict=True):
        tokens, values = row[row_mask].tolist(), row_scores[row_mask].tolist()
        text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
        pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(tokens)]
        hypotheses.append(Hypothesis(text, float(np.mean(values)), pieces, values, tokens[-1] == end))
    return [hypotheses[i : i + count] for i in range(0, len(hypotheses), count)]


def rows_at_once(model: PreTrainedModel, longest: int, beam: int = 1) -> int:
    """How many rows of so many tokens are computed together: their logits over the vocabulary take the memory."""
    return max(1, min(BATCH_SIZE, LOGITS // (beam * longest * model.config.vocab_size)))


def translate_rows(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: EncodedPairs,
    accelerator: Accelerator,
    beam: int,
    count: int,
    max_tokens: int,
) -> None:
    """Translate all rows into `folder`, one file of lines a process; rows that lie there are not translated again.

    The batches do not depend on what is done already, so a killed run gives the translations of one that was not.
    """
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    done = np.zeros(len(rows), dtype=bool)
    done[list(saved_translations(folder))] = True
    accelerator.wait_for_everyone()  # all have read what is done before anyone writes
    model.to(accelerator.device).eval()
    with (folder / f"part-{accelerator.process_index}.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")  # ends a line that a kill has cut
        size = rows_at_once(model, max_tokens, beam)
        for chosen, batch in batches_over(rows, accelerator, "translating", done, size):
            with accelerator.autocast():
                found = hypotheses_of_batch(model, tokenizer, batch, beam, count, max_tokens)
            for number, hypotheses in zip(chosen, found, strict=True):
                line = {"row": int(number), "hypotheses": [asdict(one) for one in hypotheses]}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
    accelerator.wait_for_everyone()


def saved_translations(folder: Path) -> dict[int, tuple[Path, int]]:
    """Where the line of each translated row starts: row number -> (file, offset). Cut lines are left out."""
    places: dict[int, tuple[Path, int]] = {}
    for path in sorted(folder.glob("part-*.jsonl")):
        with path.open("rb") as file:
            offset = 0
            for line in file:
                if line.strip() and line.endswith(b"\n"):
                    try:
                        places[json.loads(line)["row"]] = path, offset
                    except (ValueError, KeyError):
                        log.warning("%s: a damaged line is left out", path)
                offset += len(line)
    return places


def read_translations(folder: Path, count: int) -> Iterator[list[Hypothesis]]:
    """The translations of rows 0 to count - 1, in this order."""
    places = saved_translations(folder)
    files = {path: path.open("rb") for path in {path for path, _ in places.values()}}
    try:
        for number in range(count):
            path, offset = places[number]
            files[path].seek(offset)
            yield [Hypothesis(**one) for one in json.loads(files[path].readline())["hypotheses"]]
    finally:
        for file in files.values():
            file.close()


@torch.no_grad()
def greedy_texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: EncodedPairs, accelerator: Accelerator
) -> list[str]:
    """Greedy translations of all rows, in their order, on every process."""
    training = model.training
    model.eval()
    longest = 2 * int(rows.lengths.max())
    mine: list[tuple[int, str]] = []
    for chosen, batch in batches_over(rows, accelerator, "dev", None, rows_at_once(model, longest)):
        with accelerator.autocast():
            ids = generate(model, batch, 1, 1, longest, logits=False).sequences[:, 1:]
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        mine += list(zip(chosen.tolist(), (text.strip() for text in texts), strict=True))
    model.train(training)
    return [text for _, text in sorted(gather_object(mine))]
