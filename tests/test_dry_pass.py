"""The dry pass before training: what would be found after hours is found on two images, and names who is to blame."""

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
from harness import Architecture, Objective
from harness.plan.graph import Graph

WHO = "architecture 'odd' of plugin 'toys' of distribution 'tests 0'"


class Net(nn.Module):
    """A classifier of 4×4 images into 4 classes; `odd` changes its hidden layer or its output."""

    def __init__(self, odd: Callable[[Net, Tensor], Any] = lambda net, x: x) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 8), nn.Linear(8, 4)
        self.odd = odd

    def forward(self, x: Tensor) -> Any:
        return self.odd(self, self.last(self.first(x.flatten(1)).relu()))


def keep(**values: Any) -> Net:
    """Return a network that multiplies its logits by an attribute."""
    net = Net(lambda net, x: x * net.kept)
    for name, value in values.items():
        setattr(net, name, value)
    return net


class Constant(Net):
    """Multiplies its logits by a buffer that is in no state dict."""

    def __init__(self, value: Tensor) -> None:
        super().__init__(lambda net, x: x * net.scale)
        self.register_buffer("scale", value, persistent=False)


class View(nn.Module):
    """Views a feature map as a matrix, which channels-last memory does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 3, 3, padding=1)), nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.conv(x.expand(-1, 1, 4, 4)).view(len(x), -1))


class Lines(nn.Module):
    """Unfreezes a layer on its first pass."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.net.first.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.net.first.requires_grad_(True)
        return self.net(x)


class CountsItsSteps(Net):
    """Depends on a number that training changes and that nothing stores: the steps taken, in units of `per`."""

    def __init__(self, per: int) -> None:
        super().__init__()
        self.steps, self.per = [0], per

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


class Answer(nn.Module):
    """Gives one answer whatever it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


class Clamped(Net):
    """Clamps its logits to bounds that are buffers, infinite ones."""

    def __init__(self) -> None:
        super().__init__(lambda net, x: x.clamp(net.low, net.high))
        self.register_buffer("low", torch.tensor(-torch.inf))
        self.register_buffer("high", torch.tensor(torch.inf))


def hidden() -> nn.Module:
    """Return a network whose random numbers no comparison of attributes finds."""
    kept = torch.rand(4)
    return Net(lambda net, x: x * kept)


def architecture(make: Callable[[], nn.Module]) -> type[Architecture]:
    """Return an architecture of a module's constructor."""

    class Odd(Architecture):
        """A network with a trait."""

        name = "odd"

        def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
            return make()

    return Odd


def training_only(value: Any) -> Callable[[Net, Tensor], Any]:
    return lambda net, x: value(x) if net.training else x


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
        lambda: CountsItsSteps(1),
        "a fresh network with the stored weights gives other logits than the trained one: it depends on 'steps', which the",
    ),
    "double statistics": (
        DoubleStatistics,
        "buffer 'mean' is torch.float64 and training changes it; only float32 buffers can be interpolated",
    ),
    "unfreezes itself": (Lines, "parameter 'net.first.weight' changes its requires_grad after build; set it there"),
    "no gradient": (lambda: Net().requires_grad_(False), "no parameter is trained: all have requires_grad=False"),
}


def with_parameter(tensor: Tensor) -> nn.Module:
    net = Net()
    net.odd_parameter = nn.Parameter(tensor)
    return net


def scaled(factor: float) -> nn.Module:
    net = Net()
    net.last.weight.data.mul_(factor)
    return net


def failure_of(lab: Any, graph_of: Callable[..., Graph], *plugins: tuple[str, type], **changes: Any) -> list[str]:
    """Run a benchmark and return the messages of its failures; nothing may have been trained."""
    found = toys.catalogue(*plugins)
    ledger = lab.run(graph_of(found, **changes), found)
    assert lab.trained() == []
    return sorted(set(ledger.failures.values()))


@pytest.mark.parametrize("name", REFUSED)
def test_architecture_that_cannot_work_is_named_before_training(lab: Any, graph_of: Callable[..., Graph], name: str) -> None:
    """One line names the architecture, says what it does and what is expected; no epoch is trained."""
    make, text = REFUSED[name]
    (message,) = failure_of(lab, graph_of, ("architecture", architecture(make)), architectures=["odd"])
    assert message.startswith(f"{WHO}: {text}")


def test_view_of_a_channels_last_tensor_is_explained(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """torch's message says nothing of channels-last memory; ours does."""
    (message,) = failure_of(lab, graph_of, ("architecture", architecture(View)), architectures=["odd"])
    assert message.startswith(f"{WHO}: forward raised RuntimeError: view size is not compatible")
    assert message.endswith("laid out channels-last here: write flatten or reshape, not view")


def objective(compute: Callable[[Tensor, Tensor], Any]) -> type[Objective]:
    """Return an objective of a function of logits and labels."""

    class OddObjective(Objective):
        """A loss with a trait."""

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
def test_objective_that_cannot_work_is_named_before_training(lab: Any, graph_of: Callable[..., Graph], name: str) -> None:
    """One line names the objective, not the architecture."""
    compute, text = LOSSES[name]
    (message,) = failure_of(lab, graph_of, ("objective", objective(compute)), objective="odd_loss")
    assert message.startswith(f"objective 'odd_loss' of plugin 'toys' of distribution 'tests 0': {text}")


def test_data_that_does_not_load_is_said_once(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """However many trainings wait for a data set: it is read once, and the message is one."""

    class Missing(toys.Blobs):
        """A data set whose files are not there."""

        name = "missing"

        def load(self, root: Path) -> Any:
            raise harness.DataError("missing: put it somewhere")

    messages = failure_of(lab, graph_of, ("dataset", Missing), datasets=["missing"], seeds=[0, 1, 2])
    assert messages == ["missing: put it somewhere"]
    assert [e["kind"] for e in lab.events if e["event"] == "task_ended"] == ["check"]


def test_one_check_per_setting_and_objective(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """Seeds and methods share it; distillation has one of its own; a run with nothing to train makes none."""
    graph = graph_of(seeds=[0, 1], methods=["deep", {"distilled": {"fork_epoch": 1}}])
    lab.run(graph)
    checks = [e for e in lab.events if e["event"] == "task_ended" and e["kind"] == "check"]
    assert [e["status"] for e in checks] == ["done", "done"]
    lab.events.clear()
    lab.run(graph)
    assert not [e for e in lab.events if e["event"] == "task_ended"]


def test_network_whose_logits_are_its_parameters_is_trained(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """Nothing is wrong with it, and torch warns of nothing."""
    found = toys.catalogue(("architecture", architecture(Answer)))
    ledger = lab.run(graph_of(found, architectures=["odd"], methods=["deep"]), found)
    assert not ledger.failures


def test_infinite_buffers_are_values_like_others(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """A network with infinite bounds is repeatable, does not count as diverged, and is measured."""
    found = toys.catalogue(("architecture", architecture(Clamped)))
    ledger = lab.run(graph_of(found, architectures=["odd"], methods=["deep"]), found)
    assert ledger.failures == {}
    assert lab.trained()


def test_good_setting_beside_a_bad_one_is_trained(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """A check fails its own cells only."""
    found = toys.catalogue(("architecture", architecture(lambda: nn.Linear(3, 4))))
    ledger = lab.run(graph_of(found, architectures=["perceptron", "odd"]), found)
    assert len(lab.trained()) == 6
    assert len(ledger.failures) == 6
    assert len(set(ledger.causes.values())) == 1


def test_checkpoint_that_a_fresh_network_does_not_reproduce_is_refused(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """What only a long training changes is found when its weights are stored, and names the attribute."""

    found = toys.catalogue(("architecture", architecture(lambda: CountsItsSteps(10))))
    ledger = lab.run(graph_of(found, architectures=["odd"], methods=["deep"], members=1), found)
    (message,) = ledger.failures.values()
    assert message == (
        f"{WHO}: a fresh network with the stored weights gives other logits than the trained one: it depends on 'steps', which "
        "the state dict does not hold; keep that in a parameter or a persistent buffer, or make it the same in every build"
    )
