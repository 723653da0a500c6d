"""`harness.run` and `harness.open_run`: benchmarks from Python, and what a run's folder holds."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import harness
import toys
from conftest import RECIPE
from harness import events
from harness.execution.environment import TaskEnvironment
from harness.networks.evaluation import NormalizedImages

TOY: dict[str, Any] = {
    "name": "toy",
    "seeds": [0, 1],
    "members": 2,
    "datasets": ["blobs"],
    "architectures": ["perceptron"],
    "methods": ["deep", {"constrained": {"fork_epoch": 1}}],
    "metrics": ["ensemble_accuracy", "mean_member_accuracy"],
    "recipe": RECIPE,
}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., harness.Run]:
    """A function that runs a benchmark of toys in this process, on one store."""

    def run_toys(benchmark: Any = None, **options: Any) -> harness.Run:
        given = {"out": tmp_path / "run", "store": tmp_path / "store", "data": tmp_path, "workers": 1, "progress": False}
        return harness.run(TOY if benchmark is None else benchmark, catalogue=toys.catalogue(), **{**given, **options})

    return run_toys


def test_mapping_and_file_give_the_same_run(run: Callable[..., harness.Run], tmp_path: Path) -> None:
    """A mapping with the keys of a benchmark file is that benchmark; tuples and NumPy's numbers count as YAML's."""
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(TOY))
    from_file = run(path, out=tmp_path / "a")
    given = {**TOY, "seeds": (np.int64(0), 1), "methods": tuple(TOY["methods"])}
    from_mapping = run(given, out=tmp_path / "b")
    assert (from_file.status, from_mapping.status) == ("done", "done")
    assert (from_file.folder / "results.csv").read_bytes() == (from_mapping.folder / "results.csv").read_bytes()


def test_run_has_rows_board_and_members(run: Callable[..., harness.Run]) -> None:
    """Rows are a DataFrame, the board is text in any format, members can be chosen by label, seed and index."""
    done = run()
    main = done.rows[done.rows["main"]]
    assert set(main["metric"]) == {"ensemble_accuracy", "mean_member_accuracy", "training_epochs"}
    assert set(main["status"]) == {"done"}
    assert done.leaderboard("markdown") == (done.folder / "leaderboard.md").read_text(encoding="utf-8")
    assert done.leaderboard("csv").startswith("benchmark,")
    assert "<table" in done._repr_html_()
    assert repr(done) == f"Run('{done.folder}', done)"
    assert done.failures == []
    assert len(done.members()) == 2 * 2 * 2
    [member] = done.members(method="deep", seed=1, member=0)
    assert (member.dataset, member.architecture, member.method, member.seed, member.member) == (
        *("blobs", "perceptron", "deep"),
        *(1, 0),
    )
    assert member.path.is_file()


def test_module_of_a_member_has_its_measured_accuracy(run: Callable[..., harness.Run], tmp_path: Path) -> None:
    """The loaded network, in evaluation mode, is right as often as its row says."""
    done = run()
    environment = TaskEnvironment(
        toys.catalogue(),
        harness.Setting(toys.Blobs(), toys.Perceptron(), harness.Recipe(**RECIPE_VALUES)).spec,
        tmp_path,
        torch.device("cpu"),
    )
    images = torch.cat(list(NormalizedImages(environment.test, environment.normalization, torch.device("cpu")).batches()))
    accuracies = []
    for member in done.members(method="deep", seed=0):
        network = member.module(catalogue=toys.catalogue())
        assert not network.training
        with torch.no_grad():
            right = network(images).argmax(1) == environment.test.labels
        accuracies.append(100 * float(right.double().mean()))
        assert {name: value.shape for name, value in member.state_dict().items()} == {
            name: value.shape for name, value in network.state_dict().items()
        }
    rows = done.rows
    chosen = rows[(rows["method"] == "deep") & (rows["seed"] == 0) & (rows["metric"] == "mean_member_accuracy")]
    assert np.mean(accuracies) == pytest.approx(chosen["value"].item())


def test_open_run_trains_nothing(run: Callable[..., harness.Run], tmp_path: Path) -> None:
    """A finished run is opened by its folder, also where its store was moved."""
    done = run()
    (tmp_path / "store").rename(tmp_path / "moved")
    opened = harness.open_run(done.folder, store=tmp_path / "moved")
    assert opened.rows.equals(done.rows)
    weights = opened.members(method="deep")[0].state_dict()
    assert all(isinstance(tensor, torch.Tensor) for tensor in weights.values())
    with pytest.raises(harness.UserError, match="deep, seed 0, member 0: its weights cannot be read"):
        harness.open_run(done.folder).members(method="deep")[0].state_dict()


def test_interrupted_run_is_saved_and_resumed(run: Callable[..., harness.Run], tmp_path: Path) -> None:
    """Ctrl-C saves, then raises KeyboardInterrupt; the same call goes on and ends with the rows of an uninterrupted run."""
    whole = run(out=tmp_path / "whole", store=tmp_path / "other")

    def interrupt(event: events.Event) -> None:
        if isinstance(event, events.EpochEnded) and event.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(observers={"interrupts": interrupt})
    unfinished = harness.open_run(tmp_path / "run")
    assert unfinished.status == "interrupted"
    assert "missing" in set(unfinished.rows["status"])
    started: list[float] = []

    def note(event: events.Event) -> None:
        if isinstance(event, events.TrainingStarted):
            started.append(event.epoch)

    resumed = run(observers={"notes": note})
    assert max(started) >= 2 or len(started) < 8
    assert resumed.status == "done"
    assert (resumed.folder / "results.csv").read_bytes() == (whole.folder / "results.csv").read_bytes()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_interrupt_does_not_wait(run: Callable[..., harness.Run]) -> None:
    """A second Ctrl-C raises at once instead of ending the process, which may be a notebook's kernel."""

    def interrupt_twice(event: events.Event) -> None:
        if isinstance(event, events.TrainingStarted):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(observers={"interrupts": interrupt_twice})


def test_time_limit_returns_an_interrupted_run(run: Callable[..., harness.Run]) -> None:
    """When the time is over everything is saved and the run is returned; the same call without a limit completes it."""
    stopped = run({**TOY, "recipe": {**RECIPE, "epochs": 4000}}, time_limit=3)
    assert stopped.status == "interrupted"
    with pytest.raises(harness.UserError, match="time_limit: 'soon' is no duration; write '25m'"):
        run(time_limit="soon")


def test_changes_and_failures(run: Callable[..., harness.Run]) -> None:
    """`set` changes the benchmark as `--set` does; cells that fail are named, and the call returns."""
    done = run(set={"recipe.learning_rate": 1e12, "recipe.warmup": 0.0, "seeds": [3]})
    assert done.status == "failed"
    assert {failure["seed"] for failure in done.failures} == {3}
    assert all(failure["message"].startswith("diverged in epoch 1") for failure in done.failures)


def test_observers_of_a_run_see_its_events(run: Callable[..., harness.Run]) -> None:
    """Functions handed to a run get every event, with names."""
    seen: list[events.Event] = []
    run(observers={"list": seen.append})
    assert isinstance(seen[0], events.RunStarted)
    assert isinstance(seen[-2], events.RunEnded)
    labels = {event.methods for event in seen if isinstance(event, events.EpochEnded)}
    assert ("deep", "constrained") in labels


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"methods": ["dep"]}, r"^benchmark: methods\[0\]: unknown method 'dep'; did you mean 'deep'\?"),
    ({"seeds": 3}, r"^benchmark: seeds: 3 is not a list; "),
    ({"recipe": {"epochs": 0}}, r"^benchmark: recipe.epochs: 0 is out of range; "),
    ({"seed": [1]}, r"^benchmark: seed: unknown key 'seed'; did you mean 'seeds'\?"),
    ({"methods": [{"constrained": {"fork": 1}}]}, r"^benchmark: methods\[0\].constrained.fork: unknown key 'fork'"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistake_in_a_mapping_names_its_path(run: Callable[..., harness.Run], changes: dict[str, Any], message: str) -> None:
    """A mapping has no lines: the path of the value takes their place."""
    with pytest.raises(harness.UserError, match=message):
        run({**TOY, **changes})


def test_mistakes_of_callers(run: Callable[..., harness.Run], tmp_path: Path) -> None:
    """Unknown filters and values, engines and folders give one line with what is allowed."""
    done = run()
    with pytest.raises(harness.UserError, match="unknown filter 'metod'; did you mean 'method'"):
        done.members(metod="deep")
    with pytest.raises(harness.UserError, match=r"no method 'swee'; .*deep"):
        done.members(method="swee")
    with pytest.raises(harness.UserError, match="unknown engine 'loca'; did you mean 'local'"):
        run(engine="loca")
    with pytest.raises(harness.UserError, match=r"no results\.csv; name a folder that"):
        harness.open_run(tmp_path / "nowhere")
    with pytest.raises(harness.UserError, match="unknown format 'pdf'"):
        done.leaderboard("pdf")


RECIPE_VALUES = {**RECIPE, "augmentation": harness.Augmentation(**RECIPE["augmentation"])}
