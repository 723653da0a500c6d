"""Compare a complete small run (load, train on augmented images, evaluate, save) with a script that uses DataLoader and PIL.

Our side is a complete run of the harness (plan, store with digests and fsync, events, rows) in one process, with the
environment of a worker. docs/performance.md has the results.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from plain_scripts import PlainResNet20, PlainViT, train_script
from side_process import SideProcess

from harness import Dataset, Split, streams
from harness.benchmark import load_benchmark
from harness.execution.context import RunContext
from harness.execution.engines.local import LocalEngine
from harness.execution.engines.worker_process import worker_environment
from harness.execution.run_plan import RunPlan
from harness.execution.runner import Runner
from harness.plan.planner import plan
from harness.registry.catalogue import Catalogue, Registration, load_catalogue
from harness.registry.discovery import Source
from harness.results.rows import read_rows
from harness.store import Store
from harness.telemetry.event_log import EventLog
from harness_vision.digits import Digits


class Greys(Dataset):
    """Noise images of CIFAR's size, whose mean brightness depends on the class."""

    name = "greys"
    shape = (3, 32, 32)
    num_classes = 10
    train_size = 1280
    fingerprint = "greys-1"
    normalization = ((0.45,) * 3, (0.25,) * 3)

    def load(self, root: Path) -> tuple[Split, Split]:
        return self._split("train", self.train_size), self._split("test", 640)

    def _split(self, name: str, n: int) -> Split:
        labels = torch.arange(n) % 10
        noise = streams.bits(streams.key("greys", name), torch.arange(n * 3 * 32 * 32)).view(n, *self.shape) & 63
        brightness = 20 * labels.view(-1, 1, 1, 1)
        return Split((noise + brightness).to(torch.uint8), labels)


VIT = {"patch": 2, "width": 32, "mlp": 64, "depth": 2, "heads": 4}
RUNS: dict[str, dict[str, Any]] = {
    "resnet20, digits": {
        "dataset": Digits(),
        "architecture": {"resnet20": {"width": 0.5}},
        "model": lambda: PlainResNet20(8, 1),
        "recipe": {"epochs": 6, "batch_size": 32, "learning_rate": 0.05, "augmentation": {"crop_padding": 1}},
        "bar": 1.4,
    },
    "vit, digits": {
        "dataset": Digits(),
        "architecture": {"vit": {**VIT, "dropout": 0.0}},
        "model": lambda: PlainViT(1, 8, **VIT),
        "recipe": {
            "epochs": 12,
            "batch_size": 64,
            "learning_rate": 0.003,
            "optimizer": "adam",
            "weight_decay": 0.0,
            "augmentation": {"crop_padding": 1},
        },
        "bar": 2.5,
    },
    "resnet20, 32 pixels": {
        "dataset": Greys(),
        "architecture": {"resnet20": {"width": 1}},
        "model": lambda: PlainResNet20(16),
        "recipe": {"epochs": 2, "batch_size": 128, "learning_rate": 0.05, "precision": "bf16"},
        "bar": 1.5,
    },
}


def catalogue() -> Catalogue:
    """Return the installed plugins, and the data set `greys`."""
    return Catalogue([*load_catalogue(), Registration("dataset", "greys", Greys, Source("perf", "benchmarks"))])


def run_harness(folder: Path, run: dict[str, Any]) -> float:
    """Run a benchmark of one member in a new folder; return its test accuracy in percent."""
    content = {
        "name": "small",
        "seeds": [0],
        "members": 1,
        "datasets": [run["dataset"].name],
        "architectures": [run["architecture"]],
        "methods": ["deep"],
        "metrics": ["ensemble_accuracy"],
        "recipe": run["recipe"],
    }
    folder.mkdir()
    (folder / "small.yaml").write_text(yaml.safe_dump(content))
    plugins = catalogue()
    graph = plan(load_benchmark(folder / "small.yaml", plugins))
    store = Store(folder / "store")
    with contextlib.closing(EventLog(folder / "events.jsonl", {})) as log:
        context = RunContext(plugins, store.root, folder, "cpu", log, lambda: False)
        Runner(RunPlan(graph), store, LocalEngine(LocalEngine.Options(workers=1)), context, folder).run()
    rows = read_rows(folder)
    return float(rows[rows["metric"] == "ensemble_accuracy"]["value"].iloc[0])


def run_script(folder: Path, run: dict[str, Any]) -> float:
    """Run the plain script with the same recipe in a new folder; return its test accuracy in percent."""
    folder.mkdir()
    train, test = run["dataset"].load(folder)
    model = run["model"]()
    recipe = run["recipe"]
    if recipe.get("optimizer") == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), recipe["learning_rate"])
    else:
        optimizer = torch.optim.SGD(model.parameters(), recipe["learning_rate"], momentum=0.9, weight_decay=1e-4)
    return train_script(
        model,
        optimizer,
        (train.images, train.labels),
        (test.images, test.labels),
        epochs=recipe["epochs"],
        batch=recipe["batch_size"],
        padding=recipe.get("augmentation", {}).get("crop_padding", 4),
        normalization=run["dataset"].normalization,
        checkpoint=folder / "checkpoint.pt",
    )


@pytest.mark.parametrize("name", RUNS)
def test_whole_run_against_a_plain_script(compare, name, tmp_path):
    """The accuracy is at most 15 points below the script's; the run is faster by the factor `bar`."""
    run = RUNS[name]
    if run["recipe"].get("precision") == "bf16" and not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this processor has no bfloat16 instructions")
    assert run_harness(tmp_path / "first", run) >= run_script(tmp_path / "by-hand", run) - 15
    ours = SideProcess("test_run", "our_runs", name, str(tmp_path / "ours"), environment=worker_environment(1))
    theirs = SideProcess("test_run", "their_runs", name, str(tmp_path / "theirs"))
    with contextlib.closing(ours), contextlib.closing(theirs):
        compare(ours, theirs, bar=run["bar"], rounds=7)


def our_runs(name: str, folder: str) -> Callable[[], object]:
    """Return a function that runs the harness, each time in a new folder with this prefix."""
    number = itertools.count()
    return lambda: run_harness(Path(f"{folder}-{next(number)}"), RUNS[name])


def their_runs(name: str, folder: str) -> Callable[[], object]:
    """Return a function that runs the script, each time in a new folder with this prefix."""
    number = itertools.count()
    return lambda: run_script(Path(f"{folder}-{next(number)}"), RUNS[name])
