"""Encoder-decoders: fresh, loaded, or cut from a trained teacher; all are plain Hugging Face models."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSeq2SeqLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from metakd.errors import InputError
from metakd.models.loading import load_config, load_tokenizer, load_weights
from metakd.training.dry_run import evaluating, trying
from metakd.training.runtime import seed_everything
from metakd.translation.rows import Batch
from metakd.translation.settings import FreshTranslator, TranslatorFromTeacher

POSITIONS = 1024  # that a fresh model has from the start; a longer text makes more


def load_translator(name: str) -> PreTrainedModel:
    """An encoder-decoder of a Hub name or folder in fp32, after a check of every tensor.

    Raises:
        InputError: it cannot be loaded, is no encoder-decoder, or lacks tensors.
    """
    config = load_config(name)
    if not config.is_encoder_decoder:
        raise InputError(f"{name} is no encoder-decoder ({config.model_type}); name a model that translates")
    model = load_weights(AutoModelForSeq2SeqLM, name, config, trained=True)
    model.generation_config.forced_eos_token_id = None  # it would make a text that is cut look whole
    return model


def try_translator(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, name: str) -> None:
    """Raise InputError unless a model reads and writes texts of `max_length` tokens of this tokenizer."""
    start, rows = model.config.decoder_start_token_id, model.get_input_embeddings().num_embeddings
    if start is None:
        raise InputError(f"{name}: config.json has no decoder_start_token_id, so it is not known how a text starts")
    if (largest := max(tokenizer.get_vocab().values())) >= rows:
        raise InputError(
            f"{name} has embeddings of {rows} tokens, but its tokenizer has the id {largest}; the two do not belong "
            "together"
        )
    ids = torch.full((1, max_length), tokenizer.eos_token_id, device=model.device)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "target": ids}
    with evaluating(model), trying(model, name, f"{max_length} tokens", "lower max_length"):
        target_logits(model, batch, start)


def fresh_translator(shape: FreshTranslator, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """M2M100's architecture with random weights; source, target and output embeddings are one matrix.

    It normalises before each sublayer. Marian's, which does so after, learns far slower from few pairs.
    """
    if shape.hidden_size % shape.heads:
        raise InputError(f"hidden_size {shape.hidden_size} is no multiple of {shape.heads} heads")
    decoder_layers, inner = shape.decoder_layers or shape.layers, shape.intermediate_size or 4 * shape.hidden_size
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    config = M2M100Config(
        vocab_size=len(tokenizer), d_model=shape.hidden_size, max_position_embeddings=POSITIONS,
        encoder_layers=shape.layers, decoder_layers=decoder_layers,
        encoder_attention_heads=shape.heads, decoder_attention_heads=shape.heads,
        encoder_ffn_dim=inner, decoder_ffn_dim=inner, encoder_layerdrop=0.0, decoder_layerdrop=0.0,
        dropout=shape.dropout, attention_dropout=0.0, activation_dropout=0.0, scale_embedding=True,
        pad_token_id=pad, eos_token_id=end, bos_token_id=None, decoder_start_token_id=end,
        init_std=shape.hidden_size**-0.5,
    )  # fmt: skip
    seed_everything(seed)
    model = M2M100ForConditionalGeneration(config)
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not model.lm_head:
            nn.init.xavier_uniform_(module.weight)  # as fairseq; the embeddings keep D^-0.5
    model.generation_config.bad_words_ids = [[pad]]  # padding never stands inside a translation
    return model


def cut_translator(teacher: PreTrainedModel, shape: TranslatorFromTeacher) -> PreTrainedModel:
    """A copy of the teacher with some of its layers, spread evenly from the first to the last of each side."""
    student = copy.deepcopy(teacher)
    wanted = {"encoder": shape.layers, "decoder": shape.decoder_layers or shape.layers}
    for side, count in wanted.items():
        part = getattr(student, f"get_{side}")()
        layers = getattr(part, "layers", None)
        if not isinstance(layers, nn.ModuleList) or not hasattr(student.config, f"{side}_layers"):
            raise InputError(f"layers of {student.config.model_type} cannot be cut; name a fresh student instead")
        if count > len(layers):
            raise InputError(f"task.student: {count} {side} layers, but the teacher has {len(layers)}")
        kept = np.linspace(0, len(layers) - 1, count).round().astype(int) if count > 1 else [0]
        part.layers = nn.ModuleList(layers[int(number)] for number in kept)
        setattr(student.config, f"{side}_layers", count)
        for number, layer in enumerate(part.layers):
            for module in layer.modules():
                if hasattr(module, "layer_idx"):  # the place of its keys and values in the cache
                    module.layer_idx = number
    student.config.num_hidden_layers = student.config.encoder_layers
    return student.requires_grad_(True)


def tokenizer_of(translator: object, task_tokenizer: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model that is loaded, or the task's for one from random weights.

    Raises:
        InputError: it lacks the tokens that fill a batch and end a text.
    """
    name = translator if isinstance(translator, str) else task_tokenizer
    tokenizer = load_tokenizer(name)
    missing = [kind for kind in ("pad_token", "eos_token") if getattr(tokenizer, kind) is None]
    if missing:
        raise InputError(f"{name}: the tokenizer has no {' and no '.join(missing)}; make one by parallel_text.py")
    return tokenizer


def target_logits(model: nn.Module, batch: Batch, start: int) -> Tensor:
    """Logits [B, L, V] of each target token, given the source and the target tokens before it.

    Args:
        start: id of the token that starts a translation.
    """
    before = batch["target"].roll(1, dims=1)
    before[:, 0] = start
    return model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], decoder_input_ids=before, use_cache=False
    ).logits
