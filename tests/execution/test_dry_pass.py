"""The dry pass before training: on two images it finds what would fail after hours, and names the plugin."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import harness
import toys
from harness import Objective
from harness.plan.graph import Graph
from harness.telemetry.events import TaskEnded
from odd_networks import LABEL, Net, architecture, failure_of


def keep(**values: Any) -> Net:
    """Return a network that multiplies its logits by its attribute `kept`, with attributes set."""
    net = Net(lambda net, x: x * net.kept)
    for name, value in values.items():
        setattr(net, name, value)
    return net


class Constant(Net):
    """Multiplies its logits by a non-persistent buffer."""

    def __init__(self, value: Tensor) -> None:
        super().__init__(lambda net, x: x * net.scale)
        self.register_buffer("scale", value, persistent=False)


class View(nn.Module):
    """Views a feature map as a matrix, which channels-last memory does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 3, 3, padding=1))
        self.last = nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.conv(x.expand(-1, 1, 4, 4)).view(len(x), -1))


class Unfreezes(nn.Module):
    """Unfreezes a layer in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.net.first.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.net.first.requires_grad_(True)
        return self.net(x)


class CountsSteps(Net):
    """Multiplies its logits by 1 + the number of training steps divided by `per`, which no state dict holds."""

    def __init__(self, per: int) -> None:
        super().__init__()
        self.steps = [0]
        self.per = per

    def forward(self, x: Tensor) -> Any:
        if self.training and torch.is_grad_enabled():
            self.steps[0] += 1
        return super().forward(x) * (1 + self.steps[0] // self.per)


class DoubleStatistics(Net):
    """Keeps running statistics in float64."""

    def __init__(self) -> None:
        super().__init__(lambda net, x: net.centered(x))
        self.register_buffer("mean", torch.zeros(4, dtype=torch.float64))

    def centered(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.lerp_(x.detach().double().mean(0), 0.1)
        return x - self.mean.float()


class ConstantLogits(nn.Module):
    """Returns the same trained logits for every image."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


class Clamped(Net):
    """Clamps its logits to infinite bounds, which are buffers."""

    def __init__(self) -> None:
        super().__init__(lambda net, x: x.clamp(net.low, net.high))
        self.register_buffer("low", torch.tensor(-torch.inf))
        self.register_buffer("high", torch.tensor(torch.inf))


def hidden() -> nn.Module:
    """Return a network with random numbers in a closure, where a comparison of attributes does not find them."""
    kept = torch.rand(4)
    return Net(lambda net, x: x * kept)


def training_only(change: Callable[[Tensor], Any]) -> Callable[[Net, Tensor], Any]:
    """Return a function of network and logits that changes the logits in training mode."""
    return lambda net, x: change(x) if net.training else x


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "too few logits": (lambda: Net(lambda net, x: x[:, :3]), "gives a tensor (2, 3) in evaluation mode; a tensor (2, 4) of"),
    "spatial logits": (lambda: Net(lambda net, x: x[:, :, None, None]), "gives a tensor (2, 4, 1, 1) in evaluation mode; a"),
    "tuple": (lambda: Net(lambda net, x: (x, x)), "gives a tuple in evaluation mode; a tensor (2, 4) of logits is expected"),
    "dict": (lambda: Net(lambda net, x: {"logits": x}), "gives a dict in evaluation mode; a tensor (2, 4) of logits is"),
    "nothing": (lambda: Net(lambda net, x: None), "gives a NoneType in evaluation mode; a tensor (2, 4) of logits is expected"),
    "classes": (lambda: Net(lambda net, x: x.argmax(1)), "gives a tensor (2,) in evaluation mode; a tensor (2, 4) of logits"),
    "integers": (lambda: Net(lambda net, x: x.long()), "gives torch.int64 in evaluation mode; a tensor (2, 4) of logits is"),
    "not finite": (lambda: Net(lambda net, x: x / 0), "gives logits that are not finite in evaluation mode"),
    "tuple in training": (lambda: Net(training_only(lambda x: (x, x))), "gives a tuple in training mode; a tensor (2, 4) of"),
    "not finite in training": (
        lambda: Net(training_only(lambda x: x / 0)),
        "gives logits that are not finite in training mode",
    ),
    "raises": (lambda: nn.Linear(3, 4), "forward raised RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
    "random in evaluation": (lambda: Net(lambda net, x: torch.dropout(x, 0.5, True)), "is random in evaluation mode: two"),
    "random number kept": (
        lambda: keep(kept=float(torch.rand(()))),
        "it depends on 'kept', which the state dict does not hold; keep that in a parameter or a persistent buffer, or make it "
        "the same in every build",
    ),
    "random tensor kept": (lambda: keep(kept=torch.rand(4)), "it depends on 'kept', which the state dict does not hold"),
    "random array hidden in a function": (hidden, "it depends on something, which the state dict does not hold"),
    "random constant": (lambda: Constant(torch.rand(4)), "it depends on 'scale', which the state dict does not hold"),
    "complex parameter": (
        lambda: with_parameter(torch.zeros(2, dtype=torch.complex64)),
        "parameter 'odd_parameter' is torch.complex64; parameters are torch.float32",
    ),
    "python's random numbers in training": (
        lambda: Net(training_only(lambda x: x * random.random())),
        "is not repeatable in training mode: two passes with torch's generator in one state give different logits; draw random",
    ),
    "numpy's random numbers in training": (
        lambda: Net(training_only(lambda x: x * np.random.rand())),
        "is not repeatable in training mode",
    ),
    "python's random numbers in build": (
        lambda: scaled(random.random()),
        "build gives other weights each time; draw them from torch's own generator",
    ),
    "number that training changes": (
        lambda: CountsSteps(1),
        "a fresh network with the stored weights gives other logits than the trained one: it depends on 'steps', which the",
    ),
    "double statistics": (
        DoubleStatistics,
        "buffer 'mean' is torch.float64 and training changes it; only float32 buffers can be interpolated",
    ),
    "unfreezes itself": (Unfreezes, "parameter 'net.first.weight' changes its requires_grad after build; set it there"),
    "no gradient": (lambda: Net().requires_grad_(False), "no parameter is trained: all have requires_grad=False"),
}


def with_parameter(tensor: Tensor) -> nn.Module:
    """Return a network with one more parameter."""
    net = Net()
    net.odd_parameter = nn.Parameter(tensor)
    return net


def scaled(factor: float) -> nn.Module:
    """Return a network whose last weights are multiplied by a factor."""
    net = Net()
    net.last.weight.data.mul_(factor)
    return net


@pytest.mark.parametrize("name", REFUSED)
def test_architecture_that_cannot_work(lab: Any, graph_of: Callable[..., Graph], name: str) -> None:
    """The message names the architecture and the problem; no epoch is trained."""
    make, problem = REFUSED[name]
    [message] = failure_of(lab, graph_of, ("architecture", architecture(make)), architectures=["odd"])
    assert message.startswith(f"{LABEL}: {problem}")


def test_view_of_a_channels_last_tensor(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """The message adds to torch's that memory is channels-last, and what to write instead."""
    [message] = failure_of(lab, graph_of, ("architecture", architecture(View)), architectures=["odd"])
    assert message.startswith(f"{LABEL}: forward raised RuntimeError: view size is not compatible")
    assert message.endswith("laid out channels-last here: write flatten or reshape, not view")


def objective(compute: Callable[[Tensor, Tensor], Any]) -> type[Objective]:
    """Return an objective named `odd_loss` that computes its loss with a function of logits and labels."""

    class OddObjective(Objective):
        """A loss that a function computes."""

        name = "odd_loss"

        def loss(self, logits: Tensor, labels: Tensor, **rest: Any) -> Any:
            return compute(logits, labels)

    return OddObjective


LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Any], str]] = {
    "not finite": (lambda logits, labels: logits.sum() / 0, "loss is "),
    "without gradient": (lambda logits, labels: logits.detach().sum(), "loss has no gradient: it does not depend on the"),
    "per image": (lambda logits, labels: logits.sum(1), "loss gave a tensor (2,); a scalar tensor is expected"),
    "an integer": (lambda logits, labels: labels.sum(), "loss gave torch.int64; a floating-point scalar is expected"),
    "complex": (lambda logits, labels: logits.sum().to(torch.complex64), "loss gave torch.complex64; a floating-point scalar"),
    "random": (
        lambda logits, labels: logits.sum() * (1 + random.random()),
        "loss is not repeatable: with torch's generator in one state it is ",
    ),
    "a number": (lambda logits, labels: 0.5, "loss gave float; a scalar tensor is expected"),
    "raises": (lambda logits, labels: labels["class"], "loss raised IndexError"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_objective_that_cannot_work(lab: Any, graph_of: Callable[..., Graph], name: str) -> None:
    """The message names the objective and the problem; no epoch is trained."""
    compute, problem = LOSSES[name]
    [message] = failure_of(lab, graph_of, ("objective", objective(compute)), objective="odd_loss")
    assert message.startswith(f"objective 'odd_loss' of plugin 'toys' of distribution 'tests 0': {problem}")


def test_data_set_that_does_not_load(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """It is loaded once, and all trainings that need it fail with its message."""

    class Missing(toys.Blobs):
        """A data set whose files are missing."""

        name = "missing"

        def load(self, root: Path) -> Any:
            raise harness.DataError("missing: put it somewhere")

    messages = failure_of(lab, graph_of, ("dataset", Missing), datasets=["missing"], seeds=[0, 1, 2])
    assert messages == ["missing: put it somewhere"]
    assert [event.kind for event in lab.events if isinstance(event, TaskEnded)] == ["check"]


def test_one_check_per_setting_and_objective(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """Seeds and methods share a check, distillation has another one, and a run without trainings has none."""
    graph = graph_of(seeds=[0, 1], methods=["deep", {"distilled": {"fork_epoch": 1}}])
    lab.run(graph)
    checks = [event for event in lab.events if isinstance(event, TaskEnded) and event.kind == "check"]
    assert [event.status for event in checks] == ["done", "done"]
    lab.events.clear()
    lab.run(graph)
    assert [event for event in lab.events if isinstance(event, TaskEnded)] == []


def test_network_whose_logits_are_its_parameters(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """It is trained, and torch gives no warning."""
    catalogue = toys.catalogue(("architecture", architecture(ConstantLogits)))
    state = lab.run(graph_of(catalogue, architectures=["odd"], methods=["deep"]), catalogue)
    assert state.failures == {}


def test_network_with_infinite_buffers(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """It is trained and measured, and does not count as diverged."""
    catalogue = toys.catalogue(("architecture", architecture(Clamped)))
    state = lab.run(graph_of(catalogue, architectures=["odd"], methods=["deep"]), catalogue)
    assert state.failures == {}
    assert len(lab.trained()) == 3


def test_valid_architecture_beside_an_invalid_one(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """A check that fails does so for the cells of its own setting only."""
    catalogue = toys.catalogue(("architecture", architecture(lambda: nn.Linear(3, 4))))
    state = lab.run(graph_of(catalogue, architectures=["perceptron", "odd"]), catalogue)
    assert len(lab.trained()) == 6
    assert len(state.failures) == 6
    assert len(set(state.causes.values())) == 1


def test_attribute_that_a_long_training_changes(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """It is found when the weights are stored; the message names the attribute."""
    catalogue = toys.catalogue(("architecture", architecture(lambda: CountsSteps(10))))
    state = lab.run(graph_of(catalogue, architectures=["odd"], methods=["deep"], members=1), catalogue)
    [message] = state.failures.values()
    assert message == (
        f"{LABEL}: a fresh network with the stored weights gives other logits than the trained one: it depends on 'steps', "
        "which the state dict does not hold; keep that in a parameter or a persistent buffer, or make it the same in every "
        "build"
    )
