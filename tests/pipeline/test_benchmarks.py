"""The benchmarks on tiny models: what they time computes the right numbers, and they write what they measured."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from metakd.errors import InputError
from metakd.weighting.prototypes import BLOCK
from tests.conftest import ROOT, script

BENCHMARKS = ROOT / "experiments/benchmarks"
Load = Callable[[str], ModuleType]
Encoder = Callable[..., Path]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a benchmark by name; its own processes compute on one thread and cache tokens in the test's folder."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return lambda name: script(f"experiments/benchmarks/{name}.py")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_prototypes_scores_the_file_and_the_stream(load: Load, tmp_path: Path) -> None:
    """A few rows, row by row from the paper's formula; two blocks are read, so that their border counts too."""
    prototypes = load("prototypes")
    sizes = prototypes.Sizes(rows=BLOCK + 1000, streamed_rows=BLOCK + 500, width=6, domains=3, classes=2)
    prototypes.make_file(tmp_path / "store", sizes)
    file = np.load(tmp_path / "store/values.npy")
    streamed = prototypes.StreamedEmbeddings(sizes.streamed_rows, sizes.width)
    stream = np.concatenate([streamed[slice(0, BLOCK)], streamed[slice(BLOCK, sizes.streamed_rows)]])
    for score, embeddings in ((prototypes.score_file, file), (prototypes.score_stream, stream)):
        scores = score(tmp_path / "store", sizes)
        labels, domains = prototypes.random_labels_and_domains(len(embeddings), sizes)
        for row in (0, 1, 2, BLOCK - 1, BLOCK, len(embeddings) - 1):
            of_class = [embeddings[(labels == labels[row]) & (domains == k)].mean(0, dtype=float) for k in range(3)]
            to_domain = [cosine(prototype, embeddings[row]) for prototype in of_class]
            own = to_domain.pop(domains[row])
            assert scores[row] == pytest.approx(min(max(0.5 * own + 0.5 * np.mean(to_domain), 0), 1), abs=1e-5)


def test_prototypes_measures_time_and_memory(load: Load, tmp_path: Path) -> None:
    load("prototypes").main(tmp_path / "out.json", 2000, 3000, width=16, rounds=1, work=tmp_path / "work")
    medians = json.loads((tmp_path / "out.json").read_text())["medians"]
    assert set(medians) == {"reading", "scoring", "scoring a stream"}
    assert all(values["seconds"] > 0 and values["peak_mb"] > 10 for values in medians.values())


def test_scale_computes_the_losses_of_one_process(load: Load, tmp_path: Path) -> None:
    load("scale").main(tmp_path / "out.json", rows=64, growth=(1,), work=tmp_path / "work")
    by_launch = json.loads((tmp_path / "out.json").read_text())["processes"]
    alone = by_launch.pop("1 process")["losses"]
    assert len(alone) == 2 and len(by_launch) == 2
    for title, result in by_launch.items():
        assert result["losses"] == pytest.approx(alone, abs=1e-5), title


def test_cpu_tuning_computes_the_losses_of_stock_torch(load: Load, tmp_path: Path, encoder: Encoder) -> None:
    """The encoder has dropout; the benchmark must turn it off, or the losses would differ."""
    folder = encoder(layers=6, dropout=0.3)
    load("cpu_tuning").main(
        tmp_path / "out.json", "short", str(folder), rows=48, rounds=1, batch_size=16, precision="fp32",
        work=tmp_path / "work",
    )  # fmt: skip
    stages = json.loads((tmp_path / "out.json").read_text())["stages"]
    assert set(stages) == {"stage 1", "stage 2"}
    for title, values in stages.items():
        assert values["mean loss, auto"] == pytest.approx(values["mean loss, off"], rel=1e-5), title
        assert values["largest relative difference of a loss"] < 1e-5, title


def test_overhead_takes_the_steps_of_the_loop(load: Load, tmp_path: Path, encoder: Encoder) -> None:
    """Without dropout, bare steps and loop train the same student."""
    load("overhead").main(
        tmp_path / "out.json", "short", str(encoder(layers=6)), rows=96, rounds=2, batch_size=16, precision="fp32",
        work=tmp_path / "work",
    )  # fmt: skip
    losses = json.loads((tmp_path / "out.json").read_text())["mean_loss"]
    assert losses["loop"] == pytest.approx(losses["bare"], rel=1e-5) and len(losses["loop"]) == 2


def test_step_profile_sees_every_part(load: Load, tmp_path: Path, encoder: Encoder) -> None:
    load("step_profile").main(
        tmp_path / "out.json", "short", str(encoder(layers=6)), rows=48, batch_size=16, precision="fp32",
        work=tmp_path / "work",
    )  # fmt: skip
    stages = json.loads((tmp_path / "out.json").read_text())["stages"]
    for title, result in stages.items():
        parts = result["parts"]
        assert set(parts) == {
            "data", "teacher", "student forward", "losses", "backward", "clipping, optimizer", "the rest"
        }, title  # fmt: skip
        assert all(0 < share < 1 for share in parts.values()), title
        assert result["operations"]["matrix products"] > 0, title


def test_stages_trains_students_of_all_libraries(load: Load, tmp_path: Path, encoder: Encoder) -> None:
    """Each library's whole run leaves a student that is nearer to the teacher than one after a single epoch."""
    pytest.importorskip("textbrewer", reason="TextBrewer is not installed; see tests/references/requirements.txt")
    folder, losses = str(encoder(layers=6)), {}
    for epochs in (1, 12):
        load("stages").main(
            tmp_path / "out.json", "short", folder, rows=32, whole_rows=32, whole_epochs=epochs, rounds=1, batch_size=8,
            precision="fp32", work=tmp_path / "work",
        )  # fmt: skip
        result = json.loads((tmp_path / "out.json").read_text())
        losses[epochs] = {name: by_stage["intermediate"] for name, by_stage in result["losses"].items()}
        assert all(speed > 0 for speeds in result["rows_per_second"].values() for speed in speeds.values())
    assert set(losses[1]) == {"metakd", "TextBrewer", "EasyNLP loop"}
    for name, loss in losses[12].items():
        assert loss < losses[1][name], name


def test_translation_trains_and_translates_beside_transformers(load: Load, tmp_path: Path) -> None:
    """Both trainers take the same steps, and their losses fall alike."""
    script("data_prep/synthetic_translation.py").main(tmp_path / "tables", train=80, dev=8, test=8, vocabulary=200)
    load("translation").main(
        tmp_path / "tables", tmp_path / "work", 16, 1, rows=80, rounds=1, epochs=3, out=tmp_path / "out.json"
    )
    result = json.loads((tmp_path / "out.json").read_text())
    assert set(result["ratios"]) == {"training", "beam 1", "beam 5"} and min(result["ratios"].values()) > 0
    mine, theirs = result["last_loss"].values()
    assert mine == pytest.approx(theirs, rel=0.1)


def test_summary_names_the_benchmark_that_was_not_run(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = load("summary")
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    with pytest.raises(InputError, match=r"stages_long\.json: no such file"):
        summary.tables()
