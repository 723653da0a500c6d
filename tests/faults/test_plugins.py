"""Plugins that misbehave: their cells fail with a message that names plugin, hook and line; other cells are not affected."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from torch import nn

import harness
import toys
from conftest import Lab, toy_file
from faults import rogue
from faults.rig import contents, events
from faults.test_disk import FILE
from faults.test_signals import end_within, workers_of
from harness.execution.rows import failures
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.store import Store

GraphOf = Callable[..., Graph]
SOURCE = "of plugin 'toys' of distribution 'tests 0': "


class Loss(harness.Objective):
    """Cross-entropy that misbehaves from its third call on; before, it is the mean of the logits."""

    name = "loss"
    calls = 0

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, **_: Any) -> Any:
        type(self).calls += 1
        if self.calls <= 2:
            return logits.mean()
        return self.misbehave(nn.functional.cross_entropy(logits, labels))

    def misbehave(self, loss: torch.Tensor) -> Any:
        """Return something else than the loss."""


def objective(misbehave: Callable[[torch.Tensor], Any]) -> type[Loss]:
    """Return an objective whose loss misbehaves."""
    return type("Bad", (Loss,), {"name": "bad", "misbehave": lambda self, loss: misbehave(loss), "calls": 0})


def architecture(build: Callable[..., Any]) -> type[harness.Architecture]:
    """Return an architecture with a `build` of shape and classes."""

    class Bad(harness.Architecture):
        name = "bad"

        def build(self, shape: tuple[int, int, int], num_classes: int) -> Any:
            return build(shape, num_classes)

    return Bad


def dataset(change: Callable[[Any], Any]) -> type[toys.Blobs]:
    """Return a data set whose `load` returns a function of valid splits."""

    class Bad(toys.Blobs):
        name = "bad"

        def load(self, root: Path) -> Any:
            return change(super().load(root))

    return Bad


def derivation(derive: Callable[..., Any]) -> type[harness.EnsembleBuilder]:
    """Return a builder with a derivation, as the attribute `derivation`, whose `derive` is a function of the parents."""

    class Bad(harness.Derivation):
        name = "bad"

        def derive(self, parents: Any, context: Any) -> Any:
            return derive(parents)

    class Builder(harness.EnsembleBuilder):
        name = "bad"
        derivation = Bad

        def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
            return cell.derive(Bad(), [cell.trajectory(member=0).at(1)])

    return Builder


def boom(*_: Any) -> Any:
    """Raise an error."""
    raise RuntimeError("boom")


def changed(split: harness.Split, **changes: Any) -> harness.Split:
    """Return a split with other images or labels."""
    return harness.Split(**{"images": split.images, "labels": split.labels, **changes})


CASES: dict[str, tuple[str, type, str]] = {
    "objective raises": (
        "objective",
        objective(boom),
        f"objective 'bad' {SOURCE}loss raised RuntimeError: boom (test_plugins.py:",
    ),
    "objective exits": ("objective", objective(lambda loss: sys.exit(3)), f"objective 'bad' {SOURCE}loss raised SystemExit: 3"),
    "objective gives no scalar": (
        "objective",
        objective(lambda loss: loss.repeat(3)),
        "loss gave a tensor (3,); a scalar tensor",
    ),
    "objective gives a float": ("objective", objective(float), f"objective 'bad' {SOURCE}loss gave float; a scalar tensor is"),
    "objective gives nan": ("objective", objective(lambda loss: loss * float("nan")), "is not finite on training images"),
    "objective detaches": ("objective", objective(lambda loss: loss.detach()), "loss has no gradient: it does not"),
    "architecture raises": ("architecture", architecture(boom), f"architecture 'bad' {SOURCE}build raised RuntimeError: boom"),
    "architecture gives a function": (
        "architecture",
        architecture(lambda s, c: boom),
        "build gave function; a module with para",
    ),
    "architecture gives no weights": ("architecture", architecture(lambda s, c: nn.Flatten()), "build gave Flatten; a mod"),
    "architecture does not fit": (
        "architecture",
        architecture(lambda s, c: nn.Sequential(nn.Flatten(), nn.Linear(7, c))),
        f"architecture 'bad' {SOURCE}forward raised RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
    "architecture has too many outputs": (
        "architecture",
        architecture(lambda s, c: nn.Sequential(nn.Flatten(), nn.Linear(16, c + 1))),
        f"architecture 'bad' {SOURCE}gives a tensor (2, 5) in evaluation mode; a tensor (2, 4) of logits is expected",
    ),
    "dataset raises": ("dataset", dataset(boom), f"dataset 'bad' {SOURCE}load raised RuntimeError: boom"),
    "dataset gives one split": (
        "dataset",
        dataset(lambda s: s[0]),
        f"dataset 'bad' {SOURCE}load gave a Split; a training and a",
    ),
    "dataset gives floats": (
        "dataset",
        dataset(lambda s: (s[0], changed(s[1], images=s[1].images.float()))),
        "load gave a test split that is not images uint8 (n, 1, 4, 4) with labels int64 (n,) below 4",
    ),
    "dataset gives foreign labels": (
        "dataset",
        dataset(lambda s: (changed(s[0], labels=s[0].labels + 1), s[1])),
        "load gave a training split that is not images uint8",
    ),
    "derivation raises": ("ensemble_builder", derivation(boom), f"derivation 'bad' {SOURCE}derive raised RuntimeError: boom"),
    "derivation gives too few": ("ensemble_builder", derivation(lambda p: ([], {})), "derive gave 0 states; it declares 1"),
    "derivation gives half": (
        "ensemble_builder",
        derivation(lambda p: ([{}], {})),
        "derive gave no tensor '1.bias' of shape",
    ),
    "derivation gives more": (
        "ensemble_builder",
        derivation(lambda p: ([{**p[0], "x": torch.zeros(1)}], {})),
        "derive gave a tensor 'x' that the network does not have",
    ),
    "derivation gives nan as a fact": (
        "ensemble_builder",
        derivation(lambda p: (p, {"x": float("nan")})),
        f"derivation 'bad' {SOURCE}derive raised ValueError: Out of range float values are not JSON compliant",
    ),
}
KEY_OF_KIND = {"architecture": "architectures", "dataset": "datasets", "ensemble_builder": "methods"}


@pytest.mark.parametrize("case", CASES)
def test_plugin_that_misbehaves(graph_of: GraphOf, lab: Lab, case: str) -> None:
    """Its cells fail with its name, the hook and what it did; the traceback is kept; other cells are measured."""
    kind, cls, problem = CASES[case]
    plugins: list[tuple[str, type]] = [(kind, cls)]
    if hasattr(cls, "derivation"):
        plugins.append(("derivation", cls.derivation))
    catalogue = toys.catalogue(*plugins)
    good = {"architectures": ["perceptron"], "datasets": ["blobs"], "methods": ["deep"]}
    common: dict[str, Any] = {"members": 2, "metrics": ["ensemble_accuracy"]}
    changes = {"objective": "bad"} if kind == "objective" else {KEY_OF_KIND[kind]: [*good[KEY_OF_KIND[kind]], "bad"]}
    graph = graph_of(catalogue, **{**good, **common, **changes})
    failed = failures(graph, lab.run(graph, catalogue))
    assert len(failed) == 1
    if kind != "objective":
        assert "bad" in (failed[0]["dataset"], failed[0]["architecture"], failed[0]["method"])
    assert problem in failed[0]["message"]
    kept = lab.store.failure(failed[0]["key"])
    assert kept is not None
    if "raised" in problem:
        assert "Traceback (most recent call last)" in json.loads(kept.read_text())["traceback"]
    rows = read_rows(lab.out)
    main = rows[rows["metric"] == "ensemble_accuracy"]
    assert sorted(main["status"]) == (["failed"] if kind == "objective" else ["done", "failed"])


def settings() -> list[Any]:
    """Return the settings of the process that a plugin may change."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    torches = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_default_device())
    more = (torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(), torch.backends.cudnn.enabled)
    return [*handlers, *torches, *more, np.geterr(), sys.getrecursionlimit(), Path.cwd()]


def test_plugin_that_changes_settings_of_the_process(graph_of: GraphOf, lab: Lab) -> None:
    """They are restored after its task, and the results of other tasks do not change."""
    seen: list[list[Any]] = []

    class Records(rogue.Rogue):
        name = "records"

        def misbehave(self, ensemble: harness.EvaluatedEnsemble) -> None:
            seen.append(settings())

    before = settings()
    alone = Store(lab.folder / "alone")
    catalogue = toys.catalogue(("metric", rogue.METRICS["settings"]), ("metric", Records))
    valid = ["joint_connectivity", "ensemble_accuracy"]
    lab.run(graph_of(methods=["deep"], metrics=valid), store=alone)
    lab.run(graph_of(catalogue, methods=["deep"], metrics=["settings", "records", *valid]), catalogue)
    assert seen == [before]
    assert settings() == before
    found = contents(lab.store)
    expected = contents(alone)
    assert {key: found[key] for key in expected} == expected


def test_builder_that_fails_is_reported_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`harness check` names it and exits with 2; `harness plan` plans the rest; `harness run` runs it and exits with 1."""
    import harness.cli.arguments
    from harness.cli.check import check
    from harness.cli.plan import plan
    from harness.cli.run import run

    class Broken(harness.EnsembleBuilder):
        name = "broken"

        def build(self, cell: harness.Cell) -> Any:
            raise RuntimeError("no idea")

    monkeypatch.setattr(harness.cli.arguments, "open_catalogue", lambda: toys.catalogue(("ensemble_builder", Broken)))
    monkeypatch.chdir(tmp_path)
    file = str(toy_file(tmp_path, methods=["broken", "deep"], seeds=[0, 1]))
    said = "method 'broken' on blobs × perceptron: its builder fails: RuntimeError: no idea (test_plugins.py:"
    done = CliRunner().invoke(check, [file])
    assert done.exit_code == 2
    assert done.output.count(said) == 1
    assert json.loads(CliRunner().invoke(check, [file, "--json"]).output)["problems"]
    done = CliRunner().invoke(plan, [file])
    assert done.exit_code == 0
    assert f"cannot be planned: {said}" in done.output
    assert "epochs to train now:                       24" in done.output
    done = CliRunner().invoke(run, [file, "--workers", "1"])
    assert done.exit_code == 1
    [line] = [line for line in done.output.splitlines() if line.startswith("failed: ")]
    assert said in line
    assert "  in blobs × perceptron, broken, seed 0; blobs × perceptron, broken, seed 1\n" in done.output
    assert "  traceback: runs/store/failures/" in done.output
    rows = read_rows(tmp_path / "runs" / "toy")
    assert set(rows[rows["method"] == "broken"]["status"]) == {"failed"}
    assert set(rows[rows["method"] == "deep"]["status"]) == {"done"}
    [kept] = {f["key"] for f in json.loads((tmp_path / "runs" / "toy" / "run.json").read_text())["failures"] if f["seed"] == 0}
    facts = json.loads((tmp_path / "runs" / "store" / "failures" / kept[:2] / f"{kept}.json").read_text())
    assert 'raise RuntimeError("no idea")' in facts["traceback"]


@pytest.mark.slow
@pytest.mark.faults
def test_all_misbehaving_plugins_in_one_run(tmp_path: Path) -> None:
    """With 27 metrics that raise, exit, hang, print, run out of memory or return invalid values, a builder that exits and an
    observer that raises, the run exits with 1, and every other value is that of a run without them."""
    environment = rogue.install(tmp_path)
    metrics = [*rogue.METRICS, "ensemble_accuracy", {"joint_connectivity": {"draws": 3}}]
    (tmp_path / "rogue.yaml").write_text(yaml.safe_dump({**FILE, "methods": ["wrong", "deep"], "metrics": metrics}))
    (tmp_path / "good.yaml").write_text(yaml.safe_dump({**FILE, "metrics": metrics[-2:]}))
    alone = run(tmp_path, environment, "good.yaml", "--out", "good", "--store", "good-store")
    assert alone.returncode == 0
    done = run(tmp_path, environment, "rogue.yaml", "--workers", "2", "--task-timeout", "15")
    assert done.returncode == 1, done.stderr
    assert "Traceback (most recent call last)" not in done.stderr
    rows = read_rows(tmp_path / "runs" / "small")
    main = rows[rows["main"] & (rows["method"] == "deep")].set_index("metric")
    check_messages(dict(main[main["status"] == "failed"]["message"]))
    assert set(main[main["status"] == "done"].index) == {
        *("prints", "settings", "killed_once", "memory_once", "infinite", "undefined"),
        *("ensemble_accuracy", "joint_connectivity", "training_epochs"),
    }
    good = read_rows(tmp_path / "good").set_index("metric")
    for name in ("ensemble_accuracy", "joint_connectivity"):
        assert main.loc[name, "value"] == good.loc[name, "value"]
    unplanned = rows[rows["method"] == "wrong"]
    assert set(unplanned["status"]) == {"failed"}
    assert unplanned["message"].str.contains("its builder fails: SystemExit: 3 (rogue.py:", regex=False).all()
    check_output(tmp_path, done)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("workers", ["1", "2"])
def test_interrupt_of_a_plugin_that_hangs(tmp_path: Path, workers: str) -> None:
    """Two interrupts end the run at once, and its workers end within 75 seconds; with --task-timeout the next run trains
    nothing and fails the cells."""
    found = rogue.install(tmp_path)
    (tmp_path / "hangs.yaml").write_text(yaml.safe_dump({**FILE, "metrics": ["hangs"]}))
    command = [sys.executable, "-m", "harness", "run", "hangs.yaml", "--out", "out", "--workers", workers]
    environment, pipe = {**os.environ, **found, "OMP_NUM_THREADS": "1"}, subprocess.PIPE
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)
    deadline = time.monotonic() + 120
    while not any(event["kind"] == "measure" for event in events(tmp_path, "task_started")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers_at_work = workers_of(process.pid)
    for _ in range(2):
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    assert bool(workers_at_work) == (workers == "2")
    assert end_within(75, workers_at_work)
    assert "stopped at once; what was saved before stays" in process.communicate()[1]
    done = run(tmp_path, found, "hangs.yaml", "--out", "out", "--workers", workers, "--task-timeout", "5")
    assert done.returncode == 1, done.stderr
    assert "0 epochs of training" in done.stdout
    assert "no sign of life for 5 seconds" in done.stderr


def run(folder: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run `harness run` in a folder, with more environment variables."""
    command = [sys.executable, "-m", "harness", "run", *words]
    env = {**os.environ, **environment, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)


def check_messages(messages: dict[str, str]) -> None:
    """Assert that every failed metric has a message that says what it did."""
    hook = "of plugin 'rogue' of distribution 'rogue 1.0': measure "
    expected = {
        "raises": "raised RuntimeError: not today xxx",
        "exits": "raised SystemExit: 7 (rogue.py:",
        "unspeakable": "raised Unspeakable: (its message cannot be read)",
        "recursion": "raised RecursionError: too deep",
        "canceled": "raised GeneratorExit",
        "nothing": "raised TypeError: 'NoneType' object is not iterable",
        "number": "raised TypeError: 'float' object is not iterable",
        "scribbles": "raised ValueError: assignment destination is read-only",
        "empty": "gave []; its own MetricValue first is expected",
        "foreign": "its own MetricValue first is expected",
        "misnamed": "its own MetricValue first is expected",
        "textual": "a name, numbers, a unit and higher, lower or nothing are expected",
        "sideways": "better='up'",
        "unitless": "unit=None",
        "twice": "gave two values named 'twice'",
        "endless": "gave more than 100000 values",
        "memory_twice": "measuring resnet20 on digits: MemoryError: a lot",
    }
    for name, problem in expected.items():
        start = problem if name == "memory_twice" else f"metric '{name}' {hook}"
        assert messages[name].startswith(start), (name, messages[name])
        assert problem in messages[name], (name, messages[name])
        assert len(messages[name]) < 800
    assert messages["usurper"] == (
        "metric 'usurper' gives a value named 'ensemble_accuracy', as metric 'ensemble_accuracy' does; rename it"
    )
    for name in ("vanishes", "orphans"):
        assert messages[name] == "its worker process ended with exit code 3 before it was done, twice"
    assert messages["hangs"] == "no sign of life for 15 seconds (--task-timeout); its worker process was ended"
    assert set(messages) == {*expected, "usurper", "vanishes", "orphans", "hangs"}


def check_output(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    """Assert that standard output is the board, and that failures, second tries and traceback files are on standard error."""
    assert done.stdout.startswith("### small: digits, resnet20")
    for printed in ("hello", "at planning", "child"):
        assert printed not in done.stdout
    assert "in digits × resnet20, deep, seed 0" in done.stderr
    assert "its worker process ended with signal 9 before it was done; tried once more, alone" in done.stderr
    assert "out of memory; tried alone, once more" in done.stderr
    [observer] = [line for line in done.stderr.splitlines() if line.startswith("observer ")]
    assert "observer plugin 'rogue' of distribution 'rogue 1.0' failed and is left out: SystemExit: an observer" in observer
    tracebacks = [line.split(": ", 1)[1] for line in done.stderr.splitlines() if line.startswith("  traceback: ")]
    assert len(tracebacks) > 10
    assert [path for path in tracebacks if not (folder / path).is_file()] == []
    facts = json.loads((folder / "runs" / "small" / "run.json").read_text())
    assert facts["status"] == "failed"
    assert {cell["method"] for cell in facts["failures"]} == {"wrong", "deep"}


def test_process_state_imports_no_compiler() -> None:
    """Restoring torch's settings does not import its compiler, which setting determinism would do."""
    code = (
        "import sys; from harness.execution.process_state import ProcessState; ProcessState(1).restore(); "
        "sys.exit('torch._inductor' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
