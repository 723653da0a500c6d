"""The dry pass before training: networks with state that training changes and no checkpoint stores, and bad data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import toys
from harness import Split
from harness.plan.graph import Graph
from odd_networks import LABEL, Net, architecture, failure_of


class InTraining(Net):
    """Changes itself with a function in every forward pass in training mode."""

    def __init__(self, change: Callable[[Net, Tensor], Any]) -> None:
        super().__init__(self.changed)
        self.change = change
        self.passes = 0
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("cache", None)

    def changed(self, net: Net, x: Tensor) -> Tensor:
        if self.training:
            self.change(self, x)
        return x - self.mean


def replace_parameter(net: Net, x: Tensor) -> None:
    net.last.weight = nn.Parameter(net.last.weight.detach().clone())


def replace_storage(net: Net, x: Tensor) -> None:
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
    """Changes a non-persistent buffer in every forward pass."""

    def __init__(self) -> None:
        super().__init__(self.shifted)
        self.register_buffer("shift", torch.zeros(4), persistent=False)

    def shifted(self, net: Net, x: Tensor) -> Tensor:
        self.shift = self.shift + 1
        return x + self.shift if self.training else x


class Anneals(Net):
    """Adds noise in training for the first 1000 passes."""

    def __init__(self) -> None:
        super().__init__(self.noisy)
        self.passes = 0

    def noisy(self, net: Net, x: Tensor) -> Tensor:
        if not self.training:
            return x
        self.passes += 1
        return x if self.passes > 1000 else x + torch.randn_like(x)


REPLACED = "is replaced by another tensor in forward or train, which is not trained; change it in place"
REMEDY = "; make it in build, and change it in place"


class Reentrant(Net):
    """Computes its first layer in a reentrant checkpoint, which `torch.autograd.grad` does not support."""

    def forward(self, x: Tensor) -> Tensor:
        features = checkpoint(lambda y: self.first(y.flatten(1)).relu(), x.requires_grad_(), use_reentrant=True)
        return self.last(features)


def nan_somewhere(net: Net, x: Tensor) -> Tensor:
    return torch.where(x[:, :1] > x[:, :1].median(), x / 0, x) if len(x) > 2 else x


def at_most_sixteen(net: Net, x: Tensor) -> Tensor:
    return x + torch.zeros(16, 4)[: len(x)]


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "batches up to a size": (lambda: Net(at_most_sixteen), "forward raised RuntimeError: The size of tensor a ("),
    "reentrant checkpoint": (
        Reentrant,
        "parameter 'first.weight' gets another gradient by torch.autograd.grad than by backward; checkpoints need "
        "use_reentrant=False",
    ),
    "no gradient": (lambda: Net(lambda net, x: x.detach()), "gives logits without a gradient in training mode"),
    "sparse logits": (
        lambda: Net(lambda net, x: x.to_sparse()),
        "gives a tensor of layout torch.sparse_coo in evaluation mode",
    ),
    "not finite on some images": (lambda: Net(nan_somewhere), "gives logits that are not finite in evaluation mode"),
    "replaces a parameter": (lambda: InTraining(replace_parameter), f"parameter 'last.weight' {REPLACED}"),
    "replaces a parameter's memory": (lambda: InTraining(replace_storage), f"parameter 'last.weight' {REPLACED}"),
    "fills a buffer": (
        lambda: InTraining(add_buffer),
        f"'cache' of its state dict is missing when built and torch.float32 (4,) after a training step{REMEDY}",
    ),
    "changes a buffer's shape": (
        lambda: InTraining(change_shape),
        f"'mean' of its state dict is torch.float32 (4,) when built and torch.float32 (2, 4) after a training step{REMEDY}",
    ),
    "adds a parameter": (
        lambda: InTraining(add_parameter),
        f"'gain' of its state dict is missing when built and torch.float32 (4,) after a training step{REMEDY}",
    ),
    "adds a buffer": (
        lambda: InTraining(register_another),
        f"'other' of its state dict is missing when built and torch.float32 (4,) after a training step{REMEDY}",
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
def test_network_with_state_that_is_not_stored(lab: Any, graph_of: Callable[..., Graph], name: str) -> None:
    """The message names the architecture and the tensor or attribute; no epoch is trained."""
    make, problem = REFUSED[name]
    [message] = failure_of(lab, graph_of, ("architecture", architecture(make)), architectures=["odd"])
    assert message.startswith(f"{LABEL}: {problem}")


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
    """Freezes its first layer in `train()`, as networks for fine-tuning do."""

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
def test_layer_without_gradients(
    lab: Any, graph_of: Callable[..., Graph], make: Callable[[], nn.Module], recipe: dict[str, Any]
) -> None:
    """Weight decay and momentum do not change it, as in torch's optimizers."""
    catalogue = toys.catalogue(("architecture", architecture(make)))
    states = []
    for rate in (0.01, 0.02):
        fields = {**RECIPE, **recipe, "learning_rate": rate}
        lab.run(graph_of(catalogue, architectures=["odd"], methods=["deep"], members=1, recipe=fields), catalogue)
        states.append(lab.store.tensors(lab.trained()[-1], "weights"))
    assert torch.equal(states[0]["first.weight"], states[1]["first.weight"])
    assert not torch.equal(states[0]["last.weight"], states[1]["last.weight"])


def test_attributes_without_effect_on_the_logits(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """A network that counts its passes and keeps sizes is trained."""
    catalogue = toys.catalogue(("architecture", architecture(lambda: InTraining(count))))
    state = lab.run(graph_of(catalogue, architectures=["odd"], methods=["deep"], members=1), catalogue)
    assert state.failures == {}


class NeedsFour(Net):
    """Reshapes the images of a training batch into groups of four."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits.view(len(x) // 4, 4, 4).mul(1).reshape(-1, 4) if self.training else logits


def test_network_that_needs_more_than_two_images(lab: Any, graph_of: Callable[..., Graph]) -> None:
    """The dry pass tries a whole batch after a failure on two images, and the network is trained."""
    catalogue = toys.catalogue(("architecture", architecture(NeedsFour)))
    state = lab.run(graph_of(catalogue, architectures=["odd"], methods=["deep"], members=1), catalogue)
    assert state.failures == {}
    assert len(lab.trained()) == 1


def loading(change: Callable[[Any], Any]) -> type[toys.Blobs]:
    """Return a data set named `odd_data` whose `load` returns a function of valid splits."""

    class Odd(toys.Blobs):
        """A data set that loads invalid splits."""

        name = "odd_data"

        def load(self, root: Path) -> Any:
            return change(super().load(root))

    return Odd


def trained_on(change: Callable[[Split], Any]) -> Callable[[Any], Any]:
    """Return a function that changes the training split of a pair of splits."""
    return lambda splits: (change(splits[0]), splits[1])


INVALID_SPLIT = "load gave a training split that is not images uint8 (n, 1, 4, 4) with labels int64 (n,) below 4: "

DATA: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nothing": (lambda splits: None, "load gave a NoneType; a training and a test split are expected"),
    "three splits": (lambda splits: (*splits, splits[1]), "load gave a tuple; a training and a test split are expected"),
    "a pair of tensors": (trained_on(lambda s: (s.images, s.labels)), f"{INVALID_SPLIT}it is a tuple"),
    "floats": (trained_on(lambda s: Split(s.images.float(), s.labels)), f"{INVALID_SPLIT}its images are torch.float32"),
    "arrays": (trained_on(lambda s: Split(s.images.numpy(), s.labels)), f"{INVALID_SPLIT}its images are a ndarray"),
    "no channel": (trained_on(lambda s: Split(s.images[:, 0], s.labels)), f"{INVALID_SPLIT}its images are ("),
    "no image": (trained_on(lambda s: Split(s.images[:0], s.labels[:0])), f"{INVALID_SPLIT}it is empty"),
    "labels from 1": (trained_on(lambda s: Split(s.images, s.labels + 1)), f"{INVALID_SPLIT}its labels go from 1 to 4"),
    "fewer images": (trained_on(lambda s: Split(s.images[:9], s.labels[:9])), "load gave 9 training images; train_size is "),
}


@pytest.mark.parametrize("name", DATA)
def test_data_set_that_loads_invalid_splits(lab: Any, graph_of: Callable[..., Graph], name: str) -> None:
    """The message names the data set and what it returned; no epoch is trained."""
    change, problem = DATA[name]
    [message] = failure_of(lab, graph_of, ("dataset", loading(change)), datasets=["odd_data"])
    assert message.startswith(f"dataset 'odd_data' of plugin 'toys' of distribution 'tests 0': {problem}")
