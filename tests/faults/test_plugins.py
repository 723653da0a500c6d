"""Plugins that misbehave: their cells fail with a message that names plugin, hook and line; other cells are not affected."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import harness
import toys
from conftest import Lab, toy_file
from faults import rogue
from faults.rig import contents
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
    torches = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.empty(0).device)
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
    problem = "method 'broken' on blobs × perceptron: its builder fails: RuntimeError: no idea (test_plugins.py:"
    done = CliRunner().invoke(check, [file], obj=installed)
    assert done.exit_code == 2
    assert done.output.count(problem) == 1
    [listed] = json.loads(CliRunner().invoke(check, [file, "--json"], obj=installed).output)["problems"]
    assert problem in str(listed)
    done = CliRunner().invoke(plan, [file], obj=installed)
    assert done.exit_code == 0
    assert f"cannot be planned: {problem}" in done.output
    assert "epochs to train now:                       24" in done.output
    done = CliRunner().invoke(run, [file, "--workers", "1"], obj=installed)
    assert done.exit_code == 1
    [line] = [line for line in done.output.splitlines() if line.startswith("failed: ")]
    assert problem in line
    assert "  in blobs × perceptron, broken, seed 0; blobs × perceptron, broken, seed 1\n" in done.output
    assert "  traceback: runs/store/failures/" in done.output
    rows = read_rows(tmp_path / "runs" / "toy")
    assert set(rows[rows["method"] == "broken"]["status"]) == {"failed"}
    assert set(rows[rows["method"] == "deep"]["status"]) == {"done"}
    failures_of_run = json.loads((tmp_path / "runs" / "toy" / "run.json").read_text())["failures"]
    [key] = [failure["key"] for failure in failures_of_run if failure["seed"] == 0]
    facts = json.loads((tmp_path / "runs" / "store" / "failures" / key[:2] / f"{key}.json").read_text())
    assert 'raise RuntimeError("no idea")' in facts["traceback"]


def test_process_state_imports_no_compiler() -> None:
    """Restoring torch's settings does not import its compiler, which setting determinism would do."""
    code = (
        "import sys; from harness.execution.process_state import ProcessState; ProcessState(1).restore(); "
        "sys.exit('torch._inductor' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
