"""Try tiny random models of many families in the dry run; `python -m tests.families` prints docs/families.md."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from metakd.config import FreshStudent, StudentFromTeacher
from metakd.data.labels import Labels
from metakd.errors import InputError
from metakd.models.attention import enable_reading
from metakd.models.student_init import cut_student, fresh_student
from metakd.training.dry_run import load_with_tokenizer, try_features, try_model
from tests.conftest import make_tokenizer

LABELS = Labels(("no", "yes"))
ENCODERS = [
    "albert", "bert", "big_bird", "camembert", "canine", "convbert", "data2vec-text", "deberta", "deberta-v2",
    "distilbert", "electra", "ernie", "esm", "eurobert", "fnet", "ibert", "layoutlm", "longformer",
    "megatron-bert", "mobilebert", "modernbert", "mpnet", "mra", "nystromformer", "rembert", "roberta",
    "roberta-prelayernorm", "roformer", "squeezebert", "xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod",
    "yoso",
]  # fmt: skip
OTHERS = [
    "gpt2", "gpt_neo", "gpt_neox", "opt", "llama", "mistral", "qwen2", "qwen3", "gemma", "bart", "mbart", "led",
    "t5",
]  # fmt: skip
SIZES = {
    "vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64,
    "embedding_size": 32, "max_position_embeddings": 130, "pooler_hidden_size": 32, "num_key_value_heads": 2,
    "head_dim": 8, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3,
    "initializer_range": 0.2, "attention_window": 8, "block_size": 4, "num_random_blocks": 1, "block_sizes": [2, 2],
    "d_model": 32, "encoder_layers": 4, "decoder_layers": 4, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "d_inner": 64, "d_ff": 64, "d_kv": 8, "intra_bottleneck_size": 16,
    "true_hidden_size": 16, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_layers": 4, "languages": ["en_XX"],
    "default_language": "en_XX", "attention_types": [[["global", "local"], 2]], "num_groups": 1,
    "q_groups": 1, "k_groups": 1, "v_groups": 1, "post_attention_groups": 1, "intermediate_groups": 1,
    "output_groups": 1, "num_decoder_layers": 4, "emb_dim": 32, "n_layers": 4, "n_heads": 4, "d_head": 8,
    "classifier_dropout": 0.0,
}  # fmt: skip
COLUMNS = ("classifier", "embeddings", "hidden", "attention", "relations", "{layers: N}", "{hidden_size: D}")
INTRODUCTION = """# Families that work

Tiny random models of each family of transformers {version}, tried by the dry run that `check_task.py` and every
loading of a model make (`metakd/training/dry_run.py`). A family that is not listed is tried in the same way.
Made by `python -m tests.families > docs/families.md`, which also says why a family does not work.

- classifier: teacher or student on logits and labels
- embeddings: `task.teacher` of a method with prototypes
- hidden: the features `embedding`, `hidden`, `cls` and `transferable`
- attention: `attention_scores` and `attention_probabilities`
- relations: `query_key_relation` and `value_relation`
- {{layers: N}}, {{hidden_size: D}}: students of this family that are cut from the teacher, or of another width

"""


def tiny(model_type: str) -> PreTrainedConfig:
    """A family's configuration with the sizes that it has, made tiny."""
    default = AutoConfig.for_model(model_type)
    sizes = {name: size for name, size in SIZES.items() if hasattr(default, name)}
    if model_type == "xlnet":  # its positions have no limit, which it says by -1
        del sizes["max_position_embeddings"]
    return AutoConfig.for_model(model_type, **sizes)


def try_family(model_type: str, folder: Path) -> dict[str, str]:
    """The reason why each use of a family fails, by column; empty where it works."""
    torch.manual_seed(0)
    config = tiny(model_type)
    AutoModel.from_config(config).save_pretrained(folder)
    make_tokenizer(types=getattr(config, "type_vocab_size", 0) >= 2).save_pretrained(folder)
    name = str(folder)

    def features(*names: str) -> None:
        model, tokenizer = load_with_tokenizer(name, LABELS, 32)
        if names[0] != "hidden":
            enable_reading(model)
        layers = {"embedding": 0, "transferable": 0}
        try_features(model, tokenizer, 32, [(feature, layers.get(feature, 2)) for feature in names], None, model_type)

    def student(spec: StudentFromTeacher | FreshStudent) -> None:
        model, tokenizer = load_with_tokenizer(name, LABELS, 32)
        make = cut_student(model, spec) if isinstance(spec, StudentFromTeacher) else fresh_student(spec, model, LABELS)
        try_model(make, tokenizer, 32, "the student")

    uses: dict[str, Callable[[], object]] = {
        "classifier": lambda: load_with_tokenizer(name, LABELS, 32),
        "embeddings": lambda: load_with_tokenizer(name, None, 32),
        "hidden": lambda: features("hidden", "embedding", "cls", "transferable"),
        "attention": lambda: features("attention_scores", "attention_probabilities"),
        "relations": lambda: features("query_key_relation", "value_relation"),
        "{layers: N}": lambda: student(StudentFromTeacher(2)),
        "{hidden_size: D}": lambda: student(FreshStudent(24, 2)),
    }
    return {column: failure(use) for column, use in uses.items()}


def failure(use: Callable[[], object]) -> str:
    """The message of an InputError; empty if there is none. Any other exception is a fault of ours."""
    try:
        use()
    except InputError as error:
        return str(error)
    return ""


def main() -> None:
    """Print the table; reasons go to stderr."""
    import transformers

    print(INTRODUCTION.format(version=transformers.__version__) + "| family | " + " | ".join(COLUMNS) + " |")
    print("| --- |" + " --- |" * len(COLUMNS))
    for model_type in [*ENCODERS, *OTHERS]:
        with tempfile.TemporaryDirectory() as folder:
            failures = try_family(model_type, Path(folder))
        print(f"| {model_type} | " + " | ".join("no" if failures[column] else "yes" for column in COLUMNS) + " |")
        for column, message in failures.items():
            if message:
                print(f"{model_type}: {column}: {message.replace(folder, model_type)}", file=sys.stderr)


if __name__ == "__main__":
    main()
