"""Plugins that misbehave: their cells fail, with plugin, hook, place and traceback named; the rest of the board is unharmed."""

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
from faults.test_signals import gone, workers_of
from harness.execution.rows import failures
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.store import Store

GraphOf = Callable[..., Graph]
WHO = "of plugin 'toys' of distribution 'tests 0': "


class Loss(harness.Objective):
    """Cross-entropy that does something else at its third call."""

    name = "loss"
    calls = 0

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, **_: Any) -> Any:
        type(self).calls += 1
        return self.misbehave(nn.functional.cross_entropy(logits, labels)) if self.calls > 2 else logits.mean()

    def misbehave(self, loss: torch.Tensor) -> Any: ...


def objective(misbehave: Callable[[torch.Tensor], Any]) -> type[Loss]:
    return type("Bad", (Loss,), {"name": "bad", "misbehave": lambda self, loss: misbehave(loss), "calls": 0})


def architecture(build: Callable[..., Any]) -> type[harness.Architecture]:
    class Bad(harness.Architecture):
        name = "bad"

        def build(self, shape: tuple[int, int, int], num_classes: int) -> Any:
            return build(shape, num_classes)

    return Bad


def dataset(load: Callable[[Any], Any]) -> type[toys.Blobs]:
    return type("Bad", (toys.Blobs,), {"name": "bad", "load": lambda self, root: load(toys.Blobs.load(self, root))})


def derivation(derive: Callable[..., Any]) -> type[harness.EnsembleBuilder]:
    bad = type("Bad", (harness.Derivation,), {"name": "bad", "derive": lambda self, parents, place: derive(parents)})

    class Builder(harness.EnsembleBuilder):
        name = "bad"

        def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
            return cell.derive(bad(), [cell.trajectory(member=0).at(1)])

    Builder.derivation = bad  # type: ignore[attr-defined]
    return Builder


def boom(*_: Any) -> Any:
    raise RuntimeError("boom")


def flat(split: harness.Split, **changes: Any) -> harness.Split:
    return harness.Split(**{"images": split.images, "labels": split.labels, **changes})


CASES: dict[str, tuple[str, type, str]] = {
    "objective raises": (
        "objective",
        objective(boom),
        f"objective 'bad' {WHO}loss raised RuntimeError: boom (test_plugins.py:",
    ),
    "objective exits": ("objective", objective(lambda loss: sys.exit(3)), f"objective 'bad' {WHO}loss raised SystemExit: 3"),
    "objective gives no scalar": (
        "objective",
        objective(lambda loss: loss.repeat(3)),
        "loss gave a tensor (3,); a scalar tensor",
    ),
    "objective gives a float": ("objective", objective(float), f"objective 'bad' {WHO}loss gave float; a scalar tensor is"),
    "objective gives nan": ("objective", objective(lambda loss: loss * float("nan")), "is not finite on training images"),
    "objective detaches": ("objective", objective(lambda loss: loss.detach()), "loss has no gradient: it does not"),
    "architecture raises": ("architecture", architecture(boom), f"architecture 'bad' {WHO}build raised RuntimeError: boom"),
    "architecture gives a function": (
        "architecture",
        architecture(lambda s, c: boom),
        "build gave function; a module with para",
    ),
    "architecture gives no weights": ("architecture", architecture(lambda s, c: nn.Flatten()), "build gave Flatten; a mod"),
    "architecture does not fit": (
        "architecture",
        architecture(lambda s, c: nn.Sequential(nn.Flatten(), nn.Linear(7, c))),
        f"architecture 'bad' {WHO}forward raised RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
    "architecture has too many outputs": (
        "architecture",
        architecture(lambda s, c: nn.Sequential(nn.Flatten(), nn.Linear(16, c + 1))),
        f"architecture 'bad' {WHO}gives a tensor (2, 5) in evaluation mode; a tensor (2, 4) of logits is expected",
    ),
    "dataset raises": ("dataset", dataset(boom), f"dataset 'bad' {WHO}load raised RuntimeError: boom"),
    "dataset gives one split": ("dataset", dataset(lambda s: s[0]), f"dataset 'bad' {WHO}load gave a Split; a training and a"),
    "dataset gives floats": (
        "dataset",
        dataset(lambda s: (s[0], flat(s[1], images=s[1].images.float()))),
        "load gave a test split that is not images uint8 (n, 1, 4, 4) with labels int64 (n,) below 4",
    ),
    "dataset gives foreign labels": (
        "dataset",
        dataset(lambda s: (flat(s[0], labels=s[0].labels + 1), s[1])),
        "load gave a training split that is not images uint8",
    ),
    "derivation raises": ("ensemble_builder", derivation(boom), f"derivation 'bad' {WHO}derive raised RuntimeError: boom"),
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
        f"derivation 'bad' {WHO}derive raised ValueError: Out of range float values are not JSON compliant",
    ),
}
LISTED = {"architecture": "architectures", "dataset": "datasets", "ensemble_builder": "methods"}


@pytest.mark.parametrize("case", CASES)
def test_misbehaving_plugin_fails_its_cells_only(graph_of: GraphOf, lab: Lab, case: str) -> None:
    """Cells of the plugin fail with its name, the hook and what it did; the traceback is kept; other cells are measured."""
    kind, cls, said = CASES[case]
    more: list[tuple[str, type]] = [(kind, cls)]
    if hasattr(cls, "derivation"):
        more.append(("derivation", cls.derivation))
    catalogue = toys.catalogue(*more)
    good = {"architectures": ["perceptron"], "datasets": ["blobs"], "methods": ["deep"]}
    common: dict[str, Any] = {"members": 2, "metrics": ["ensemble_accuracy"]}
    changes = {"objective": "bad"} if kind == "objective" else {LISTED[kind]: [*good[LISTED[kind]], "bad"]}
    graph = graph_of(catalogue, **{**good, **common, **changes})
    ledger = lab.run(graph, catalogue)
    failed = failures(graph, ledger)
    assert failed
    assert all("bad" in (cell[k] for k in ("dataset", "architecture", "method")) or kind == "objective" for cell in failed)
    assert all(said in cell["message"] for cell in failed), failed[0]["message"]
    assert len(failed) == len(graph.cells) - (0 if kind == "objective" else 1)
    kept = lab.store.failure(failed[0]["key"])
    assert kept is not None
    if "raised" in said or "RuntimeError" in said:
        assert "Traceback (most recent call last)" in json.loads(kept.read_text())["traceback"]
    rows = read_rows(lab.out)
    main = rows[rows["metric"] == "ensemble_accuracy"]
    assert list(main["status"]).count("done") == len(graph.cells) - len(failed)


def settings() -> list[Any]:
    """Return what a plugin may change of a process."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    torches = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_default_device())
    more = (torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(), torch.backends.cudnn.enabled)
    return [*handlers, *torches, *more, np.geterr(), sys.getrecursionlimit(), Path.cwd()]


def test_settings_that_a_plugin_leaves_behind_are_put_back(graph_of: GraphOf, lab: Lab) -> None:
    """What comes after it finds the process as it was, and the run can still be stopped."""
    seen: list[list[Any]] = []

    class Looks(rogue.Rogue):
        name = "looks"

        def misbehave(self, ensemble: harness.EvaluatedEnsemble) -> None:
            seen.append(settings())

    before, alone = settings(), Store(lab.folder / "alone")
    catalogue = toys.catalogue(("metric", rogue.METRICS["settings"]), ("metric", Looks))
    good = ["joint_connectivity", "ensemble_accuracy"]
    lab.run(graph_of(methods=["deep"], metrics=good), store=alone)
    lab.run(graph_of(catalogue, methods=["deep"], metrics=["settings", "looks", *good]), catalogue)
    assert seen == [before]
    assert settings() == before
    ours, found = contents(lab.store), contents(alone)
    assert {key: ours[key] for key in found} == found


def test_builder_that_fails_is_reported_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`harness check` names it and exits with 2; `harness plan` plans the rest; `harness run` runs it and exits with 1."""
    from harness.cli.check import check
    from harness.cli.plan import plan
    from harness.cli.run import run

    class Broken(harness.EnsembleBuilder):
        name = "broken"

        def build(self, cell: harness.Cell) -> Any:
            raise RuntimeError("no idea")

    installed = toys.catalogue(("ensemble_builder", Broken))
    monkeypatch.chdir(tmp_path)
    file = str(toy_file(tmp_path, methods=["broken", "deep"], seeds=[0, 1]))
    said = "method 'broken' on blobs × perceptron: its builder fails: RuntimeError: no idea (test_plugins.py:"
    done = CliRunner().invoke(check, [file], obj=installed)
    assert done.exit_code == 2
    assert done.output.count(said) == 1
    assert json.loads(CliRunner().invoke(check, [file, "--json"], obj=installed).output)["problems"]
    done = CliRunner().invoke(plan, [file], obj=installed)
    assert done.exit_code == 0
    assert f"cannot be planned: {said}" in done.output
    assert "epochs to train now:                       24" in done.output
    done = CliRunner().invoke(run, [file, "--workers", "1"], obj=installed)
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
def test_everything_that_can_go_wrong_in_one_run(tmp_path: Path) -> None:
    """27 metrics that raise, exit, hang, print, scribble, run out of memory or give nonsense, a builder that exits and an
    observer that raises, in worker processes: the run ends with exit code 1, and every other number is what it is alone."""
    found = rogue.install(tmp_path)
    metrics = [*list(rogue.METRICS), "ensemble_accuracy", {"joint_connectivity": {"draws": 3}}]
    (tmp_path / "rogue.yaml").write_text(yaml.safe_dump({**FILE, "methods": ["wrong", "deep"], "metrics": metrics}))
    (tmp_path / "good.yaml").write_text(yaml.safe_dump({**FILE, "metrics": metrics[-2:]}))
    alone = run(tmp_path, found, "good.yaml", "--out", "good", "--store", "good-store")
    assert alone.returncode == 0
    done = run(tmp_path, found, "rogue.yaml", "--workers", "2", "--task-timeout", "15")
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
    check_what_is_said(tmp_path, done)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("workers", ["1", "2"])
def test_plugin_that_hangs_can_be_interrupted(tmp_path: Path, workers: str) -> None:
    """Without --task-timeout it is waited for; who insists ends the run at once, its worker follows within a minute, what was
    trained stays, and with a time-out its cells fail."""
    found = rogue.install(tmp_path)
    (tmp_path / "hangs.yaml").write_text(yaml.safe_dump({**FILE, "metrics": ["hangs"]}))
    command = [sys.executable, "-m", "harness", "run", "hangs.yaml", "--out", "out", "--workers", workers]
    environment, pipe = {**os.environ, **found, "OMP_NUM_THREADS": "1"}, subprocess.PIPE
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)
    deadline = time.monotonic() + 120
    while not any(event["kind"] == "measure" for event in events(tmp_path, "task_started")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    at_work = workers_of(process.pid)
    for _ in range(2):
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    assert bool(at_work) == (workers == "2")
    assert gone(at_work, 75)
    assert "stopped at once; what was saved before stays" in process.communicate()[1]
    done = run(tmp_path, found, "hangs.yaml", "--out", "out", "--workers", workers, "--task-timeout", "5")
    assert done.returncode == 1, done.stderr
    assert "0 epochs of training" in done.stdout
    assert "no sign of life for 5 seconds" in done.stderr


def run(folder: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", "run", *words]
    env = {**os.environ, **environment, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)


def check_messages(messages: dict[str, str]) -> None:
    """Every failed metric is named with what it did."""
    given = "of plugin 'rogue' of distribution 'rogue 1.0': measure "
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
    for name, said in expected.items():
        whole = said if name == "memory_twice" else f"metric '{name}' {given}"
        assert messages[name].startswith(whole), (name, messages[name])
        assert said in messages[name], (name, messages[name])
        assert len(messages[name]) < 800
    assert messages["usurper"] == (
        "metric 'usurper' gives a value named 'ensemble_accuracy', as metric 'ensemble_accuracy' does; rename it"
    )
    for name in ("vanishes", "orphans"):
        assert messages[name] == "its worker process ended with exit code 3 before it was done, twice"
    assert messages["hangs"] == "no sign of life for 15 seconds (--task-timeout); its worker process was ended"
    assert set(messages) == {*expected, "usurper", "vanishes", "orphans", "hangs"}


def check_what_is_said(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    """The user reads cells, second tries and where tracebacks lie; standard output is the board alone."""
    assert done.stdout.startswith("### small: digits, resnet20")
    assert not [line for line in done.stdout.splitlines() if "hello" in line or "at planning" in line or "child" in line]
    assert "in digits × resnet20, deep, seed 0" in done.stderr
    assert "its worker process ended with signal 9 before it was done; tried once more, alone" in done.stderr
    assert "out of memory; tried alone, once more" in done.stderr
    [observer] = [line for line in done.stderr.splitlines() if line.startswith("observer ")]
    assert "observer plugin 'rogue' of distribution 'rogue 1.0' failed and is left out: SystemExit: an observer" in observer
    kept = [line.split(": ", 1)[1] for line in done.stderr.splitlines() if line.startswith("  traceback: ")]
    assert len(kept) > 10
    assert all((folder / path).is_file() for path in kept)
    facts = json.loads((folder / "runs" / "small" / "run.json").read_text())
    assert facts["status"] == "failed"
    assert {cell["method"] for cell in facts["failures"]} == {"wrong", "deep"}


def test_surroundings_load_no_compiler() -> None:
    """To watch over torch's settings must not cost more than torch: setting determinism would import its compiler."""
    code = (
        "import sys; from harness.execution.process_state import ProcessState; ProcessState(1).restore(); "
        "sys.exit('torch._inductor' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
