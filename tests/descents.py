"""A derivation that trains: gradient descent from one network's weights, with states from which it continues."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

import harness
import toys
from harness import Derivation, DerivationContext, DerivationState, StateDict

KILLED_BEFORE = 2
"""The epoch before which the process is killed, once, if the environment variable `DESCENT_KILL` names a file."""


class Descent(Derivation):
    """A network trained on by momentum descent for some epochs of its own. One epoch costs half an epoch of plain training."""

    name, version = "descent", 1

    class Options(harness.Options):
        """Options."""

        own_epochs: int = 4

    @property
    def epochs(self) -> float:  # type: ignore[override]
        """Half of the own epochs."""
        return self.options.own_epochs / 2

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        module = context.network().to(context.device)
        module.load_state_dict(parents[0])
        memory = {name: torch.zeros_like(weight) for name, weight in module.named_parameters()}
        losses: list[float] = []
        begin = 0
        state = context.resume()
        if state is not None:
            begin, losses = state.epoch, list(state.values["losses"])
            module.load_state_dict({name: state.tensors[name] for name in module.state_dict()})
            memory = {name: state.tensors[f"memory.{name}"] for name in memory}
        for epoch in range(begin, self.options.own_epochs):
            if epoch == KILLED_BEFORE:
                _kill_once()
            for images, labels in context.batches(epoch, 20, augmented=True):
                loss = F.cross_entropy(module(images), labels)
                losses.append(float(loss.detach()))
                for (name, weight), slope in zip(
                    module.named_parameters(), torch.autograd.grad(loss, list(module.parameters())), strict=True
                ):
                    memory[name].mul_(0.9).add_(slope)
                    weight.data.sub_(memory[name], alpha=0.05)
            tensors = {**module.state_dict(), **{f"memory.{name}": value for name, value in memory.items()}}
            context.save(DerivationState(epoch + 1, tensors, {"losses": losses}))
        return [{name: value.detach().clone() for name, value in module.state_dict().items()}], {"losses": losses}


class Descended(harness.EnsembleBuilder):
    """The first member of the deep ensemble, and the second one after the descent."""

    name, version = "descended", 1

    class Options(harness.Options):
        """Options."""

        own_epochs: int = 4

    def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
        first, second = cell.build("deep")
        descent = Descent(Descent.Options(own_epochs=self.options.own_epochs))
        return [first, *cell.derive(descent, [second])]


CATALOGUE = toys.catalogue(("ensemble_builder", Descended), ("derivation", Descent))


def _kill_once() -> None:
    marker = os.environ.get("DESCENT_KILL")
    if marker and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(folder: Path, marker: str) -> int:
    """Run a benchmark with the descent in a folder, saving after each epoch. The process is killed between two epochs."""
    from conftest import toy_file
    from harness.benchmark import load_benchmark
    from harness.execution.context import RunContext
    from harness.execution.engines.local import LocalEngine
    from harness.execution.run_plan import RunPlan
    from harness.execution.runner import Runner
    from harness.plan.planner import plan
    from harness.store import Store
    from harness.telemetry.event_log import EventLog

    os.environ["DESCENT_KILL"] = marker
    graph = plan(load_benchmark(toy_file(folder, **BENCHMARK), CATALOGUE))
    store = Store(folder / "store")
    store.prepare()
    log = EventLog(folder / "out" / "events.jsonl", {})
    context = RunContext(CATALOGUE, store.root, folder, "cpu", log, lambda: False, save_every=0.0)
    state = Runner(RunPlan(graph), store, LocalEngine(LocalEngine.Options(workers=1)), context, folder / "out").run()
    log.close()
    return int(bool(state.failures))


BENCHMARK: dict[str, Any] = {"members": 2, "methods": ["deep", "descended"], "metrics": ["ensemble_accuracy"]}
"""Changes of the benchmark of toys."""
