"""The README's numbers are computed, and what it names is there."""

import json
import re
from typing import get_args

from metakd.evaluation.report import markdown
from metakd.methods import Feature
from metakd.objectives.features import losses_of
from tests.conftest import ROOT, script

README = (ROOT / "README.md").read_text("utf-8")


def test_results_table_is_the_one_of_the_results_file() -> None:
    name, shown = re.findall(r"<!-- results: (\S+) -->\n(.*)<!-- end of results -->", README, re.DOTALL)[0]
    results = json.loads((ROOT / name).read_text("utf-8"))
    seed = results["settings"]["resolved"]["task"]["training"]["seed"]
    assert shown == f"{markdown(results)}\n\nSeed {seed}, {results['made'][:10]}.\n"


def test_benchmark_tables_are_those_of_the_results() -> None:
    shown = re.findall(r"<!-- benchmarks: (\S+) -->\n(.*)\n<!-- end of benchmarks -->", README, re.DOTALL)[0]
    assert shown == ("experiments/benchmarks/summary.py", script("experiments/benchmarks/summary.py").tables())


def test_methods_table_is_the_one_of_the_method_files() -> None:
    text = (ROOT / "experiments/methods/README.md").read_text("utf-8")
    shown = re.findall(r"<!-- methods: (\S+) -->\n(.*)\n<!-- end of methods -->", text, re.DOTALL)[0]
    assert shown == ("experiments/describe_methods.py", script("experiments/describe_methods.py").table())


def test_methods_readme_names_every_feature_and_loss() -> None:
    text = (ROOT / "experiments/methods/README.md").read_text("utf-8")
    for feature in get_args(Feature):
        row = (
            next(line for line in text.splitlines() if line.startswith("| `") and f"`{feature}`" in line)
            if feature != "label"
            else ""
        )
        assert all(f"`{loss}`" in row for loss in losses_of(feature, "single_label") if feature != "label"), feature


def test_every_link_and_named_test_is_there() -> None:
    for path in re.findall(r"\]\(([\w./]+)\)", README):
        target = ROOT / path
        assert target.exists(), path
    for path in re.findall(r"`((?:unit|identities|distributed|pipeline)/\w+\.py)`", README):
        assert (ROOT / "tests" / path).is_file(), path


def test_every_named_function_is_there() -> None:
    for name in re.findall(r"`((?:models|weighting|objectives|training)\.[\w.]+)`", README):
        module, _, attribute = name.rpartition(".")
        path = ROOT / "metakd" / (module.replace(".", "/") + ".py")
        whole = ROOT / "metakd" / (name.replace(".", "/") + ".py")
        assert whole.is_file() or re.search(rf"^(def|class) {attribute}\b", path.read_text(), re.MULTILINE), name
