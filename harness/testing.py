"""Contract tests for plugins, one function per kind of plugin, and a pytest plugin with fixtures.

    from harness.testing import check_architecture

    def test_my_network():
        check_architecture(MyNetwork(), shape=(3, 16, 16), classes=7)

A function raises `AssertionError` if the plugin breaks the contract of its kind; the message says how. pytest loads the
fixtures automatically if basin-harness is installed. Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import streams
from harness.api.builder import EnsembleBuilder
from harness.api.cell import Cell
from harness.api.ensemble import EvaluatedEnsemble
from harness.api.interfaces import (
    Architecture,
    Dataset,
    Derivation,
    DerivationContext,
    Metric,
    MetricValue,
    Objective,
    Split,
    StateDict,
)
from harness.api.normalization import normalization_of
from harness.api.recipe import Recipe
from harness.api.setting import Setting
from harness.api.trajectory import Checkpoint, DerivedWeights, Weights
from harness.errors import PluginFailed
from harness.plan.methods import members_of_methods
from harness.registry.catalogue import load_catalogue
from harness.report.contract import check_figure, figure_data

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from harness.registry.catalogue import Catalogue


def check_architecture(architecture: Architecture, shape: tuple[int, int, int], classes: int) -> None:
    """Check that an architecture builds trainable networks whose weights depend on torch's global generator only.

    `shape` is (channels, height, width). Logits must be (batch, classes), and deterministic in evaluation mode. Every trainable
    parameter must get a gradient. The dry pass that precedes every training is done too: among other things, it checks that
    the state dict contains everything that the network's function depends on.
    """
    import torch

    from harness.execution.contract import try_architecture
    from harness.networks.flat_network import FlatNetwork

    def fresh(seed: int) -> nn.Module:
        with streams.seeded(streams.key("contract", seed)):
            return architecture.build(shape, classes)

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = fresh(0), fresh(0), fresh(1)
    assert torch.equal(before, torch.get_rng_state()), f"{architecture.full_name}: build reaches around the seeded generator"
    same = [torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True)]
    assert all(same), f"{architecture.full_name}: two networks of one stream differ"
    differ = [not torch.equal(a, b) for a, b in zip(first.state_dict().values(), other.state_dict().values(), strict=True)]
    assert any(differ), f"{architecture.full_name}: networks of two streams are equal"
    try:
        try_architecture(architecture, shape, classes)
    except PluginFailed as error:
        raise AssertionError(str(error)) from error
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    logits = first.eval()(images)
    assert logits.shape == (4, classes), (
        f"{architecture.full_name}: logits have shape {tuple(logits.shape)}, not (4, {classes})"
    )
    assert torch.equal(logits, first(images)), f"{architecture.full_name}: evaluation mode is not deterministic"
    torch.testing.assert_close(FlatNetwork(again.eval()).module(images), logits, rtol=1e-4, atol=1e-5)
    other.train()(images).square().sum().backward()
    still = [name for name, parameter in other.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert not still, f"{architecture.full_name}: no gradient reaches {', '.join(still)}"


def check_dataset(dataset: Dataset, root: Path) -> None:
    """Check that a data set loads from the data root as its properties declare, and equally each time.

    Its fingerprint must not be empty, and its normalization must be usable.
    """
    import torch

    dataset = dataset.located(root)
    assert dataset.fingerprint, f"{dataset.full_name}: the fingerprint is empty"
    train, test = dataset.load(root)
    assert len(train) == dataset.train_size, f"{dataset.full_name}: {len(train)} training images, {dataset.train_size} declared"
    for name, split in (("training", train), ("test", test)):
        where = f"{dataset.full_name}, {name} split"
        assert split.images.dtype == torch.uint8, f"{where}: images are {split.images.dtype}, not uint8"
        assert tuple(split.images.shape) == (len(split), *dataset.shape), (
            f"{where}: images have shape {tuple(split.images.shape)}"
        )
        assert split.labels.dtype == torch.int64, f"{where}: labels are {split.labels.dtype}, not int64"
        assert 0 <= int(split.labels.min()) <= int(split.labels.max()) < dataset.num_classes, f"{where}: labels out of range"
    try:
        normalization_of(Recipe(), dataset)
    except ValueError as error:
        raise AssertionError(str(error)) from None
    again, _ = dataset.load(root)
    assert torch.equal(again.images, train.images), f"{dataset.full_name}: loading twice gives other images"


def check_ensemble_builder(builder: EnsembleBuilder, setting: Setting, objective: Objective, members: int = 3) -> list[Weights]:
    """Check that a builder returns handles that depend on the cell only, and other handles for another seed. Return them."""
    builder.check(setting.recipe, members)
    members_of = members_of_methods(load_catalogue())

    def build(seed: int) -> list[Weights]:
        return list(builder.build(Cell(setting, objective, seed, members, members_of)))

    first, again, other = build(0), build(0), build(1)
    assert first, f"{builder.full_name}: no members"
    assert all(isinstance(m, (Checkpoint, DerivedWeights)) for m in first), f"{builder.full_name}: members are not handles"
    assert [m.key for m in first] == [m.key for m in again], f"{builder.full_name}: building twice gives other members"
    assert [m.key for m in first] != [m.key for m in other], f"{builder.full_name}: two seeds give the same members"
    return first


def check_metric(metric: Metric, members: int = 3) -> list[MetricValue]:
    """Check that a metric's main value comes first, names are unique, and measuring is deterministic and changes nothing.

    Return the values for `evaluated_ensemble(members)`.
    """
    ensemble = evaluated_ensemble(members)
    before = ensemble.logits.copy()
    metric.check(members)
    first, again = list(metric.measure(ensemble)), list(metric.measure(evaluated_ensemble(members)))
    assert [v.metric for v in first[:1]] == [metric.name], f"{metric.full_name}: its own value does not come first"
    assert len({v.metric for v in first}) == len(first), f"{metric.full_name}: a name stands twice"
    assert first == again, f"{metric.full_name}: measuring twice gives other values"
    assert (ensemble.logits == before).all(), f"{metric.full_name}: it changes the predictions"
    return first


def check_objective(objective: Objective) -> None:
    """Check that a loss is a finite scalar with a gradient, and a mean over the batch."""
    import torch

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 5, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.arange(8) % 5
    teacher = torch.randn(8, 5, generator=generator, dtype=torch.float64) if objective.needs_teacher else None
    loss = objective.loss(logits, labels, teacher_logits=teacher)
    assert loss.shape == (), f"{objective.full_name}: the loss has shape {tuple(loss.shape)}"
    assert bool(loss.isfinite()), f"{objective.full_name}: the loss is {loss}"
    (gradient,) = torch.autograd.grad(loss, logits)
    assert bool(gradient.ne(0).any()), f"{objective.full_name}: the loss has no gradient"
    twice = objective.loss(
        torch.cat([logits, logits]),
        torch.cat([labels, labels]),
        teacher_logits=None if teacher is None else torch.cat([teacher] * 2),
    )
    torch.testing.assert_close(twice, loss, msg=f"{objective.full_name}: the loss is not a mean over the batch")


def check_derivation(derivation: Derivation, parents: Sequence[StateDict], context: DerivationContext) -> Sequence[StateDict]:
    """Check that a derivation returns `outputs` state dicts like its parents', equally each time, and changes no parent.

    Return the derived state dicts. `derivation_context` makes a context.
    """
    import torch

    before = [{name: tensor.clone() for name, tensor in parent.items()} for parent in parents]
    first, _ = derivation.derive(parents, context)
    again, _ = derivation.derive(parents, context)
    assert len(first) == derivation.outputs, f"{derivation.full_name}: {len(first)} states, {derivation.outputs} declared"
    for state, repeated in zip(first, again, strict=True):
        assert state.keys() == parents[0].keys(), f"{derivation.full_name}: the tensors' names have changed"
        assert all(state[n].shape == parents[0][n].shape for n in state), (
            f"{derivation.full_name}: the tensors' shapes have changed"
        )
        assert all(torch.equal(state[n], repeated[n]) for n in state), (
            f"{derivation.full_name}: deriving twice gives other weights"
        )
    for parent, kept in zip(parents, before, strict=True):
        assert all(torch.equal(parent[n], kept[n]) for n in kept), f"{derivation.full_name}: it changes its parents"
    return first


def evaluated_ensemble(members: int = 3, examples: int = 60, classes: int = 4, seed: int = 0) -> EvaluatedEnsemble:
    """Return an ensemble of linear classifiers on random features, with interpolation, for tests of metrics."""
    import numpy as np

    rng = np.random.default_rng(seed)
    features = rng.normal(size=(examples, 6))
    teacher = rng.normal(size=(6, classes))
    labels = (features @ teacher).argmax(axis=1)
    matrices = teacher + rng.normal(size=(members, 6, classes))
    logits = np.einsum("ef,mfc->mec", features, matrices).astype(np.float32)
    return EvaluatedEnsemble(logits, labels, seed, lambda: _Linear(matrices, features, labels))


class _Linear:
    """A linear classifier whose weights can be any affine combination of several matrices'. Its images are its features."""

    has_running_statistics = False

    def __init__(self, matrices: np.ndarray, features: np.ndarray, labels: np.ndarray) -> None:
        self._matrices, self._features, self._labels = matrices, features, labels

    def correct(self, point: np.ndarray, labels: np.ndarray, batchnorm: str) -> np.ndarray:
        return self.logits(point, "test", batchnorm).argmax(axis=1) == labels

    def logits(self, point: np.ndarray, split: str, batchnorm: str) -> np.ndarray:
        import numpy as np

        self._require_split(split)
        logits = self._features @ np.tensordot(point, self._matrices, axes=1)
        return logits.astype(np.float32)

    def module(self, point: np.ndarray, batchnorm: str) -> nn.Module:
        import numpy as np
        import torch
        from torch import nn

        features, classes = self._matrices.shape[1:]
        layer = nn.Linear(features, classes, bias=False)
        layer.weight.data = torch.tensor(np.tensordot(point, self._matrices, axes=1).T, dtype=torch.float32)
        return layer.eval()

    def state_dict(self, member: int) -> StateDict:
        import torch

        return {"weight": torch.tensor(self._matrices[member].T, dtype=torch.float32)}

    def split(self, name: str) -> Split:
        import torch

        self._require_split(name)
        return Split(torch.tensor(self._features), torch.tensor(self._labels))

    def _require_split(self, name: str) -> None:
        if name not in ("test", "train"):
            raise ValueError(f"unknown split '{name}'; known: test, train")


def derivation_context(architecture: Architecture, dataset: Dataset, root: Path, seed: int = 0) -> DerivationContext:
    """Return a context for tests of derivations: network, data and random stream, on the CPU. `root` is the data root."""
    import torch

    dataset = dataset.located(root)
    train, test = dataset.load(root)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in normalization_of(Recipe(), dataset))

    def network() -> nn.Module:
        with streams.seeded(0):
            return architecture.build(dataset.shape, dataset.num_classes)

    def normalize(images: Any) -> Any:
        return (images.float() / 255 - mean) / std

    return DerivationContext(network, train, test, normalize, torch.device("cpu"), streams.key("derivation_context", seed))


@pytest.fixture(scope="session")
def harness_catalogue() -> Catalogue:
    """The catalogue of installed plugins. The test fails if a plugin could not be used."""
    catalogue = load_catalogue()
    assert not catalogue.problems, "\n".join(catalogue.problems)
    return catalogue


@pytest.fixture
def harness_run(tmp_path: Path, harness_catalogue: Catalogue) -> Callable[[str], Any]:
    """A function that runs a benchmark, given as YAML text, on the CPU and returns its rows as a DataFrame.

    Files are written to pytest's temporary folder. Observers of installed plugins are called as in any run.
    """

    def run(text: str) -> Any:
        import harness

        file = tmp_path / "benchmark.yaml"
        file.write_text(text, encoding="utf-8")
        finished = harness.run(
            file,
            out=tmp_path / "run",
            store=tmp_path / "store",
            data=tmp_path,
            workers=1,
            device="cpu",
            progress=False,
            catalogue=harness_catalogue,
        )
        return finished.rows

    return run


__all__ = [
    "check_architecture",
    "check_dataset",
    "check_derivation",
    "check_ensemble_builder",
    "check_figure",
    "check_metric",
    "check_objective",
    "derivation_context",
    "evaluated_ensemble",
    "figure_data",
    "harness_catalogue",
    "harness_run",
]
