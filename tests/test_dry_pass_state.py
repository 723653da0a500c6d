"""The dry pass before training: networks whose tensors or counters training changes in ways that nothing stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import toys
from harness.plan.graph import Graph
from test_dry_pass import WHO, Net, architecture, failure_of


class InTraining(Net):
    """Does something to itself in every training pass."""

    def __init__(self, change: Callable[[Net, Tensor], Any]) -> None:
        super().__init__(self.changed)
        self.change, self.passes = change, 0
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("cache", None)

    def changed(self, net: Net, x: Tensor) -> Tensor:
        if self.training:
            self.change(self, x)
        return x - self.mean


def replace_parameter(net: Net, x: Tensor) -> None:
    net.last.weight = nn.Parameter(net.last.weight.detach().clone())


def replace_memory(net: Net, x: Tensor) -> None:
    net.last.weight.data = net.last.weight.data.clone()


def add_buffer(net: Net, x: Tensor) -> None:
    net.cache = x.detach().mean(0)


def change_shape(net: Net, x: Tensor) -> None:
    net.mean = x.detach()


def add_parameter(net: Net, x: Tensor) -> None:
    net.gain = nn.Parameter(torch.ones(4))


def register_another(net: Net, x: Tensor) -> None:
    net.register_buffer("other", torch.zeros(4))


def keep_graph(net: Net, x: Tensor) -> None:
    net.mean = net.mean * 0.9 + x.mean(0) * 0.1


class Constant(Net):
    """Changes a buffer that no state holds."""

    def __init__(self) -> None:
        super().__init__(self.shifted)
        self.register_buffer("shift", torch.zeros(4), persistent=False)

    def shifted(self, net: Net, x: Tensor) -> Tensor:
        self.shift = self.shift + 1
        return x + self.shift if self.training else x


class Anneals(Net):
    """Has noise in training that goes down with the passes."""

    def __init__(self) -> None:
        super().__init__(self.noisy)
        self.passes = 0

    def noisy(self, net: Net, x: Tensor) -> Tensor:
        if not self.training:
            return x
        self.passes += 1
        return x if self.passes > 1000 else x + torch.randn_like(x)


REPLACED = "is replaced by another tensor in forward or train, which is not trained; change it in place"
FORM = "; make it in build, and change it in place"

REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "replaces a parameter": (lambda: InTraining(replace_parameter), f"parameter 'last.weight' {REPLACED}"),
    "replaces a parameter's memory": (lambda: InTraining(replace_memory), f"parameter 'last.weight' {REPLACED}"),
    "fills a buffer": (
        lambda: InTraining(add_buffer),
        f"'cache' of its state dict is missing when built and torch.float32 (4,) after a training step{FORM}",
    ),
    "changes a buffer's shape": (
        lambda: InTraining(change_shape),
        f"'mean' of its state dict is torch.float32 (4,) when built and torch.float32 (2, 4) after a training step{FORM}",
    ),
    "adds a parameter": (
        lambda: InTraining(add_parameter),
        f"'gain' of its state dict is missing when built and torch.float32 (4,) after a training step{FORM}",
    ),
    "adds a buffer": (
        lambda: InTraining(register_another),
        f"'other' of its state dict is missing when built and torch.float32 (4,) after a training step{FORM}",
    ),
    "keeps a graph": (
        lambda: InTraining(keep_graph),
        "a training step raised RuntimeError: Trying to backward through the graph",
    ),
    "changes a constant": (
        Constant,
        "is not repeatable in training mode: two passes with torch's generator in one state give different logits ('shift' "
        "changes); draw random numbers with torch alone, and keep what changes in persistent buffers",
    ),
    "depends on a counter": (
        Anneals,
        "it depends on 'passes', which training changes and the state dict does not hold; keep that in a persistent buffer",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_network_that_nothing_stores_is_named_before_training(lab: Any, graph_of: Callable[..., Graph], name: str) -> None:
    """One line names the architecture and the tensor or attribute; no epoch is trained."""
    make, text = REFUSED[name]
    (message,) = failure_of(lab, graph_of, ("architecture", architecture(make)), architectures=["odd"])
    assert message.startswith(f"{WHO}: {text}")


def count(net: Net, x: Tensor) -> None:
    net.passes += 1
    net.size = len(x)


RECIPE = {
    "epochs": 2,
    "batch_size": 16,
    "weight_decay": 0.1,
    "augmentation": {"crop_padding": 0, "horizontal_flip": False},
}


class FreezesInTrain(Net):
    """Freezes its first layer in `train`, as networks for fine-tuning do."""

    def train(self, mode: bool = True) -> FreezesInTrain:
        super().train(mode)
        self.first.requires_grad_(not mode)
        return self


class FirstLayerDetached(Net):
    """Computes its first layer without gradients."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.first(x.flatten(1)).relu()
        return self.last(features)


@pytest.mark.parametrize("make", [FreezesInTrain, FirstLayerDetached], ids=["in train", "without gradients"])
@pytest.mark.parametrize(
    "recipe", [{"momentum": 0.9}, {"optimizer": "adam"}, {"optimizer": "adamw"}], ids=["sgd", "adam", "adamw"]
)
def test_layer_that_gets_no_gradient_stays_as_it_is(
    lab: Any, graph_of: Callable[..., Graph], make: Callable[[], nn.Module], recipe: dict[str, Any]
) -> None:
    """Weight decay and momentum leave it as it was built, as torch's optimizers do."""
    found = toys.catalogue(("architecture", architecture(make)))
    states = []
    for rate in (0.01, 0.02):
        fields = {**RECIPE, **recipe, "learning_rate": rate}
        lab.run(graph_of(found, architectures=["odd"], methods=["deep"], members=1, recipe=fields), found)
        states.append(lab.store.tensors(lab.trained()[-1], "weights"))
    assert torch.equal(states[0]["first.weight"], states[1]["first.weight"])
    assert not torch.equal(states[0]["last.weight"], states[1]["last.weight"])


def test_counter_without_effect_is_trained(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """A network may count its passes and note sizes."""
    found = toys.catalogue(("architecture", architecture(lambda: InTraining(count))))
    ledger = lab.run(graph_of(found, architectures=["odd"], methods=["deep"], members=1), found)
    assert ledger.failures == {}
