"""What a board shows of cells that are incomplete, outdated, failed, not finite, or measured by different versions."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import harness
import toys
from conftest import RECIPE, Lab, stop_after
from harness.errors import Interrupted, UserError
from harness.leaderboard import board, render
from harness.leaderboard.tables import Entry
from harness.plan.graph import Graph
from harness.registry.catalogue import Catalogue
from harness.results.rows import read_rows

GraphOf = Callable[..., Graph]


def entries(out: Path, metrics: str = "main") -> dict[tuple[str, str], Entry]:
    """Return the board's entries by method and metric."""
    [table] = board({str(out): read_rows(out)}, metrics).tables
    found = {}
    for row in table.entries:
        found.update({(entry.method, entry.metric): entry for entry in row})
    return found


def markdown(out: Path) -> str:
    """Return the board of a run's folder as Markdown."""
    return render(board({str(out): read_rows(out)}), "markdown")


def scored(values: Callable[[int, int], float], version: int = 1) -> Catalogue:
    """Return a catalogue with a metric `score` that is a function of the seed and the number of members."""

    class Score(harness.Metric):
        name = "score"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Sequence[harness.MetricValue]:
            return [harness.MetricValue("score", values(ensemble.seed, ensemble.size), better="higher")]

    Score.version = version
    return toys.catalogue(("metric", Score))


def status(done: int) -> str:
    """Return the status of an entry of two seeds, of which some are measured."""
    return ("missing", "incomplete", "done")[done]


def test_run_that_is_interrupted_several_times(graph_of: GraphOf, lab: Lab) -> None:
    """Each entry has the number of seeds that are measured and the status that follows from it; only a complete one is best."""
    graph = graph_of(seeds=[0, 1], members=2, metrics=["ensemble_accuracy"])
    stops = 5
    seen = set()
    while True:
        try:
            lab.run(graph, stopping=stop_after(stops))
            break
        except Interrupted:
            stops += 4
        rows = read_rows(lab.out)
        for (method, metric), entry in entries(lab.out).items():
            done = rows[(rows["method"] == method) & (rows["metric"] == metric) & (rows["status"] == "done")]
            assert entry.n == len(done)
            assert entry.status == status(len(done))
            assert entry.status == "done" or not entry.best
            seen.add(entry.status)
        if "missing" in {entry.status for entry in entries(lab.out).values()}:
            assert "not computed yet" in markdown(lab.out)
    assert "not computed yet" not in markdown(lab.out)
    assert seen == {"missing", "incomplete", "done"}


def test_run_of_a_changed_benchmark_in_the_same_folder(graph_of: GraphOf, lab: Lab) -> None:
    """From its start on, the board shows no value of the earlier run."""
    lab.run(graph_of(methods=["deep"]))
    before = entries(lab.out)["deep", "ensemble_accuracy"]
    assert before.status == "done"
    with pytest.raises(Interrupted):
        lab.run(graph_of(methods=["deep"], recipe={**RECIPE, "epochs": 3}), stopping=lambda: True)
    after = entries(lab.out)["deep", "ensemble_accuracy"]
    assert (after.mean, after.status) == (None, "missing")


def test_files_of_a_run_that_has_just_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the run is planned, run.json has the status `running`, and the board shows that values are missing."""
    from click.testing import CliRunner

    from conftest import toy_file
    from harness.cli.run import run
    from harness.telemetry.events import Event, RunPlanned

    monkeypatch.chdir(tmp_path)
    words = [str(toy_file(tmp_path, methods=["deep"])), "--workers", "1"]
    assert CliRunner().invoke(run, words, obj=toys.catalogue()).exit_code == 0
    out = tmp_path / "runs" / "toy"
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    seen: dict[str, str] = {}

    def interrupt(event: Event) -> None:
        if isinstance(event, RunPlanned):
            seen["status"] = json.loads((out / "run.json").read_text())["status"]
            seen["board"] = (out / "leaderboard.md").read_text()
            raise KeyboardInterrupt

    catalogue = toys.catalogue()
    catalogue.observers["interrupts"] = interrupt
    CliRunner().invoke(run, [*words, "--set", "recipe.epochs=3"], obj=catalogue)
    assert seen["status"] == "running"
    assert "not computed yet" in seen["board"]


def test_partial_files_of_killed_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old partial file is removed; a new one and a file with another name stay."""
    from click.testing import CliRunner

    from conftest import toy_file
    from harness.cli.run import run

    monkeypatch.chdir(tmp_path)
    out = tmp_path / "runs" / "toy"
    out.mkdir(parents=True)
    for name in (".0123456789abcdef.part", ".fedcba9876543210.part", ".mine.part"):
        (out / name).write_text("half")
        os.utime(out / name, (1, 1) if "fedc" not in name else None)
    words = [str(toy_file(tmp_path, methods=["deep"])), "--workers", "1"]
    assert CliRunner().invoke(run, words, obj=toys.catalogue()).exit_code == 0
    assert {path.name for path in out.glob(".*")} == {".fedcba9876543210.part", ".mine.part"}


def test_new_version_of_a_metric(graph_of: GraphOf, lab: Lab, tmp_path: Path) -> None:
    """It is measured again, the old value is not shown, and rows of both versions cannot be on one board."""
    old = scored(lambda seed, size: 1.0)
    new = scored(lambda seed, size: 2.0, version=2)
    graph = graph_of(old, methods=["deep"], metrics=["score"])
    lab.run(graph, old)
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "results.csv").write_bytes((lab.out / "results.csv").read_bytes())
    graph = graph_of(new, methods=["deep"], metrics=["score"])
    with pytest.raises(Interrupted):
        lab.run(graph, new, stopping=lambda: True)
    assert entries(lab.out)["deep", "score"].mean is None
    lab.run(graph, new)
    assert entries(lab.out)["deep", "score"].mean == 2.0
    with pytest.raises(UserError, match=r"is both 1\.0 and 2\.0|metric_version score@1 and score@2"):
        board({"kept": read_rows(kept), "out": read_rows(lab.out)})


def variant(what: str, second: bool) -> tuple[Catalogue, dict[str, Any]]:
    """Return a catalogue and changes of a benchmark: the first of two variants, or the second with another seed and `what`."""

    class Mine(harness.EnsembleBuilder):
        name = "mine"
        version = 2 if second and what == "version of the method" else 1

        def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
            return [cell.trajectory(member=j).at(cell.epochs) for j in range(cell.size)]

    class Loss(harness.Objective):
        name = "loss"

        class Options(harness.Options):
            scale: float = 1.0

        def loss(self, logits: Any, labels: Any, **_: Any) -> Any:
            return torch.nn.functional.cross_entropy(logits, labels) * self.options.scale

    changes: dict[str, Any] = {"methods": ["mine"], "seeds": [int(second)], "objective": "loss"}
    changes["metrics"] = [{"expected_calibration_error": {"bins": 5 if second and what == "options of the metric" else 15}}]
    if second and what == "options of the objective":
        changes["objective"] = {"loss": {"scale": 2.0}}
    return toys.catalogue(("ensemble_builder", Mine), ("objective", Loss)), changes


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("nothing", ""),
        ("version of the method", "method_version mine@1 and mine@2"),
        ("options of the metric", 'metric_version expected_calibration_error@1 and expected_calibration_error@1{"bins":5}'),
        ("options of the objective", 'objective loss@1 and loss@1{"scale":2.0}'),
    ],
)
def test_seeds_of_two_runs_that_differ(graph_of: GraphOf, tmp_path: Path, what: str, problem: str) -> None:
    """The seeds are averaged only if nothing else differs; otherwise the error names the difference."""
    frames = {}
    for second in (False, True):
        place = tmp_path / f"{second}"
        place.mkdir()
        catalogue, changes = variant(what, second)
        Lab(place).run(graph_of(catalogue, **changes), catalogue)
        frames[place.name] = read_rows(place / "out")
    if problem:
        with pytest.raises(UserError, match=re.escape(problem)):
            board(frames)
    else:
        assert board(frames).tables[0].entries[0][0].n == 2


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_seed_whose_value_is_not_finite(graph_of: GraphOf, lab: Lab, odd: float) -> None:
    """The mean of the seeds is this value, there is no deviation, and the entry is not the best."""
    catalogue = scored(lambda seed, size: odd if seed == 1 else 5.0 + seed)
    graph = graph_of(catalogue, seeds=[0, 1, 2], methods=["deep"], metrics=["score"])
    lab.run(graph, catalogue)
    entry = entries(lab.out)["deep", "score"]
    assert entry.mean is not None
    assert not math.isfinite(entry.mean)
    assert repr(entry.mean) == repr(odd)
    assert entry.std is None
    assert not entry.best
    [line] = [line for line in markdown(lab.out).splitlines() if line.startswith("| deep")]
    assert ("nan" if math.isnan(odd) else "inf") in line or "∞" in line
    rows = read_rows(lab.out)
    assert [repr(value) for value in rows[rows["metric"] == "score"]["value"]] == ["5.0", repr(odd), "7.0"]


def test_network_with_logits_that_are_not_finite(graph_of: GraphOf, lab: Lab) -> None:
    """Its cells fail, and the board shows the reason."""

    class Exploding(toys.Perceptron):
        name = "exploding"

        def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
            class Explode(nn.Module):
                def forward(self, x: torch.Tensor) -> torch.Tensor:
                    return x if self.training else x * math.inf

            return nn.Sequential(super().build(shape, num_classes), Explode())

    catalogue = toys.catalogue(("architecture", Exploding))
    graph = graph_of(catalogue, architectures=["exploding"], methods=["deep"], metrics=["ensemble_accuracy"])
    lab.run(graph, catalogue)
    assert entries(lab.out)["deep", "ensemble_accuracy"].status == "failed"
    assert "gives logits that are not finite in evaluation mode" in markdown(lab.out)


def test_seed_that_fails(graph_of: GraphOf, lab: Lab) -> None:
    """The entry counts two of three seeds, is not the best, and the board shows the reason."""

    def value(seed: int, size: int) -> float:
        if seed == 2:
            raise RuntimeError("no seed 2")
        return 9.0

    catalogue = scored(value)
    lab.run(graph_of(catalogue, seeds=[0, 1, 2], methods=["deep"], metrics=["score", "ensemble_accuracy"]), catalogue)
    entry = entries(lab.out)["deep", "score"]
    assert (entry.n, entry.expected, entry.status, entry.best) == (2, 3, "incomplete", False)
    assert "RuntimeError: no seed 2" in markdown(lab.out)
