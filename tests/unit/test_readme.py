"""Documents: links and names exist, tables are the computed ones, and examples are accepted as they stand."""

import json
import re
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch
from torch import Tensor

from metakd.config import Task, Training
from metakd.evaluation.document import to_markdown
from metakd.evaluation.report import domains_table
from metakd.methods.method import Method
from metakd.objectives.features import FEATURES, FeatureValues
from metakd.objectives.outputs import HARD
from metakd.objectives.terms import bind, losses_of, term_loss
from tests.conftest import ROOT, read_yaml, script, tiny_config

DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "data_prep/*.md", "experiments/**/*.md") for path in ROOT.glob(pattern)
)
documents = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
METHODS = ROOT / "experiments/methods/README.md"


def section(path: Path, name: str) -> tuple[str, str]:
    """What a marker names, and the text between it and its end."""
    pattern = rf"<!-- {name}: (\S+) -->\n(.*)\n<!-- end of {name} -->"
    (name_and_text,) = re.findall(pattern, path.read_text("utf-8"), re.DOTALL)
    return name_and_text


def code_blocks(path: Path, language: str) -> list[str]:
    """Code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", path.read_text("utf-8"), re.DOTALL)


@documents
def test_links_exist(path: Path) -> None:
    targets = re.findall(r"\]\(([^)\s#]+)", path.read_text("utf-8"))
    missing = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
    assert missing == []


@documents
def test_named_files_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    names = re.findall(r"`((?:metakd|experiments|data_prep|tests|docs)/[\w./-]+\.(?:py|sh|yaml|md|json))`", text)
    names += [f"tests/{name}" for name in re.findall(r"`((?:unit|identities|pipeline|distributed)/\w+\.py)`", text)]
    assert [name for name in names if "NAME" not in name and not (ROOT / name).is_file()] == []


@documents
def test_named_functions_exist(path: Path) -> None:
    """Names like `models.pooling.embed`: a module of metakd/ and what it defines."""
    if path.name == "CHANGELOG.md":
        return  # it names what is gone, too
    folders = "|".join(file.parent.name for file in ROOT.glob("metakd/*/__init__.py"))
    for name in re.findall(rf"`((?:{folders})\.\w+(?:\.\w+)?)`", path.read_text("utf-8")):
        if name.endswith(".py"):  # a script
            continue
        if not hasattr(Training(), name.removeprefix("training.")):  # a setting such as `training.seed`
            resolve_name(f"metakd.{name}")


def test_the_results_table_is_computed_from_the_results() -> None:
    name, shown = section(ROOT / "README.md", "results")
    results = json.loads((ROOT / name).read_text("utf-8"))
    table = to_markdown([domains_table(results)]).strip()
    assert [line for line in shown.splitlines() if line.startswith("|")] == table.splitlines()
    assert results["made"][:10] in shown and all(re.search(rf"\b{seed}\b", shown) for seed in results["seeds"])


def test_tables_and_pictures_of_studies_are_computed_from_their_results() -> None:
    update_documents = script("experiments/update_documents.py")
    assert [name for name, _ in update_documents.changes()] == []
    assert update_documents.stale_reports() == []
    times = "experiments/studies/README.md"  # shows what studies took, and no table of results
    assert update_documents.TIMES.search((ROOT / times).read_text("utf-8"))
    shown = [name for name in update_documents.DOCUMENTS if update_documents.MARKED.search((ROOT / name).read_text())]
    assert shown == [name for name in update_documents.DOCUMENTS if name != times]


def test_the_benchmark_tables_are_computed_from_the_results() -> None:
    shown = section(ROOT / "experiments/benchmarks/README.md", "benchmarks")
    assert shown == ("experiments/benchmarks/summary.py", script("experiments/benchmarks/summary.py").tables())


def test_the_methods_table_is_computed_from_the_method_files() -> None:
    shown = section(METHODS, "methods")
    assert shown == ("experiments/describe_methods.py", script("experiments/describe_methods.py").table())


@pytest.mark.parametrize("feature", [*FEATURES, "logits"])
def test_every_feature_is_documented_with_its_losses(feature: str) -> None:
    lines = METHODS.read_text("utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith("| `") and f"`{feature}`" in line]
    losses = set(re.findall(r"`(\w+)`", row.split("|", 2)[2]))
    assert set(losses_of(feature, "single_label")) <= losses


def test_documented_method_files_are_methods(tmp_path: Path) -> None:
    for text in code_blocks(METHODS, "yaml"):
        (tmp_path / "method.yaml").write_text(text)
        assert isinstance(read_yaml(tmp_path / "method.yaml", Method), Method)


def test_the_documented_new_loss_is_all_that_its_method_file_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {"Tensor": Tensor}
    (loss,) = [code for code in code_blocks(METHODS, "python") if "def logits_l1" in code]
    exec(loss, names)
    monkeypatch.setitem(HARD, "single_label", {"l1": names["logits_l1"]})
    (method_text,) = [text for text in code_blocks(METHODS, "yaml") if "loss: l1" in text]
    (tmp_path / "manhattan.yaml").write_text(method_text)
    (stage,) = read_yaml(tmp_path / "manhattan.yaml", Method).stages
    (bound,) = bind(stage.terms, None, tiny_config(), "single_label")
    student, teacher = FeatureValues(torch.tensor([[1.0, 2.0]])), FeatureValues(torch.tensor([[0.0, 4.0]]))
    assert term_loss(bound, student, teacher, {}, 0.0, lambda *_: None).tolist() == [1.5]  # (1 + 2) / 2


def test_documented_task_files_are_tasks(tmp_path: Path) -> None:
    required, optional = code_blocks(ROOT / "data_prep/README.md", "yaml")
    (tmp_path / "task.yaml").write_text(required)
    minimal = read_yaml(tmp_path / "task.yaml", Task)
    (tmp_path / "task.yaml").write_text(f"{required}{optional}")
    complete = read_yaml(tmp_path / "task.yaml", Task)
    assert (minimal.train, minimal.student) == (complete.train, complete.student)
    documented = set(re.findall(r"^(\w+):", required + optional, re.MULTILINE))
    assert documented == set(Task.__dataclass_fields__)
