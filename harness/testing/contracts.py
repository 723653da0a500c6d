"""The contract of each kind of plugin as a function that raises `AssertionError` if it is broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import streams
from harness.api.builder import EnsembleBuilder
from harness.api.cell import Cell
from harness.api.correction import Correction
from harness.api.data import StateDict
from harness.api.derivation import Derivation, DerivationContext
from harness.api.derived_weights import DerivedWeights
from harness.api.interfaces import Architecture, Dataset, Metric, MetricValue, Objective
from harness.api.joint_trajectory import JointCheckpoint
from harness.api.moment_weights import MomentWeights
from harness.api.normalization import normalization_of
from harness.api.recipe import Recipe
from harness.api.scalars import number
from harness.api.setting import Setting
from harness.api.trajectory import Checkpoint, Weights
from harness.errors import PluginError, PluginFailed
from harness.plan.ancestors import ancestors
from harness.plan.methods import members_of_methods, require_registered
from harness.plan.planner import parents_of
from harness.registry.catalogue import Catalogue, load_catalogue
from harness.testing.resumption import check_resumption
from harness.testing.samples import evaluated_ensemble

if TYPE_CHECKING:
    from torch import nn


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

    Images are uint8 tensors (n, *shape), labels int64 tensors (n,) below `num_classes`; further splits, too. The fingerprint
    must not be empty, and the normalization must be usable.
    """
    import torch

    from harness.execution.plugin_results import check_split

    dataset = dataset.located(root)
    name = dataset.full_name
    assert dataset.fingerprint, f"{name}: the fingerprint is empty"
    train, test = dataset.load(root)
    splits = {"training": train, "test": test}
    for split_name in dataset.evaluation_splits:
        assert split_name not in ("train", "test"), f"{name}: evaluation_splits names '{split_name}', which every data set has"
        splits[split_name] = dataset.load_split(split_name, root)
    for split_name, split in splits.items():
        try:
            check_split(f"{name}: a {split_name} split", split, dataset)
        except PluginFailed as error:
            raise AssertionError(str(error)) from None
    assert len(train) == dataset.train_size, f"{name}: {len(train)} training images, {dataset.train_size} declared"
    try:
        normalization_of(Recipe(), dataset)
    except ValueError as error:
        raise AssertionError(str(error)) from None
    again, _ = dataset.load(root)
    assert torch.equal(again.images, train.images), f"{name}: loading twice gives other images"


def check_ensemble_builder(builder: EnsembleBuilder, setting: Setting, objective: Objective, members: int = 3) -> list[Weights]:
    """Check that a builder returns handles that depend on the cell only, and other handles for another seed. Return them."""
    builder.check(setting.recipe, members)
    catalogue = load_catalogue()
    members_of = members_of_methods(catalogue, Path())

    def build(seed: int) -> list[Weights]:
        try:
            return list(builder.build(Cell(setting, objective, seed, members, members_of)))
        except (TypeError, ValueError, PluginError) as error:
            raise AssertionError(f"{builder.full_name}: build fails: {error}") from error

    first, again, other = build(0), build(0), build(1)
    assert first, f"{builder.full_name}: no members"
    assert all(isinstance(m, (Checkpoint, JointCheckpoint, MomentWeights, DerivedWeights)) for m in first), (
        f"{builder.full_name}: members are not handles"
    )
    assert len({m.key for m in first}) == len(first), f"{builder.full_name}: some members are the same weights"
    assert [m.key for m in first] == [m.key for m in again], f"{builder.full_name}: building twice gives other members"
    assert [m.key for m in first] != [m.key for m in other], f"{builder.full_name}: two seeds give the same members"
    _check_registered(builder, first, catalogue)
    return first


def _check_registered(builder: EnsembleBuilder, members: Sequence[Weights], catalogue: Catalogue) -> None:
    """Check that a worker could find the derivations and objectives of an installed builder's members."""
    registered = builder.name in catalogue.names("ensemble_builder")
    if not registered or catalogue.get("ensemble_builder", builder.name) is not type(builder):
        return  # its distribution is not installed, so neither are its other plugins
    for handle in ancestors(members, parents_of):
        try:
            require_registered(handle, catalogue)
        except PluginError as error:
            raise AssertionError(f"{builder.full_name}: {error}") from None


def check_metric(metric: Metric, members: int = 3) -> list[MetricValue]:
    """Check that a metric's values can become rows, its main one first, and that measuring is deterministic.

    Names are unique, numbers are numbers, `better` is higher, lower or empty and what the class declares; the ensemble is not
    changed. The mean of a value's examples is the value. Title and symbol are short and printable. Return the values for
    `evaluated_ensemble(members)`.
    """
    from harness.execution.plugin_results import check_direction, check_examples, check_values

    name = metric.full_name
    ensemble = evaluated_ensemble(members)
    before = ensemble.logits.copy()
    metric.check(members)
    values = list(metric.measure(ensemble))
    try:
        check_values(f"{name}: measure gave", values, metric.name)
        check_direction(f"{name}: measure gave", metric, values[0])
        check_examples(f"{name}: measure gave", values, len(ensemble.labels))
    except PluginFailed as error:
        raise AssertionError(str(error)) from None
    for word, text, longest in (("title", metric.title, 40), ("symbol", metric.symbol, 12)):
        assert isinstance(text, str), f"{name}: {word} is {text!r}; a text is expected"
        assert text.isprintable(), f"{name}: {word} {text!r} has characters that cannot be printed"
        assert len(text) <= longest, f"{name}: {word} {text!r} has {len(text)} characters; at most {longest}"
    assert values == list(metric.measure(evaluated_ensemble(members))), f"{name}: measuring twice gives other values"
    assert (ensemble.logits == before).all(), f"{name}: it changes the predictions"
    return values


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

    They have the parents' names, shapes and dtypes, and share no memory with them. The facts are JSON. Continued from a state
    that it has saved, it returns the same weights. `epochs` is a finite number of at least 0. Return the derived state dicts.
    `derivation_context` makes a context.
    """
    import torch

    from harness.api.task import canonical_json
    from harness.execution.plugin_results import check_states

    name = derivation.full_name
    try:
        number(derivation.epochs, f"{name}: epochs")
    except ValueError as error:
        raise AssertionError(str(error)) from None
    before = [{key: tensor.clone() for key, tensor in parent.items()} for parent in parents]
    first, facts = derivation.derive(parents, context)
    again, _ = derivation.derive(parents, context)
    try:
        check_states(f"{name}: derive gave", [dict(state) for state in first], derivation.outputs, parents[0])
        canonical_json(dict(facts))
    except PluginFailed as error:
        raise AssertionError(str(error)) from None
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{name}: its facts are no JSON: {error}") from None
    _check_no_shared_memory(name, first, parents)
    for state, repeated in zip(first, again, strict=True):
        for key in state:
            assert torch.equal(state[key], repeated[key]), f"{name}: deriving twice gives other weights: '{key}'"
    for parent, kept in zip(parents, before, strict=True):
        for key, tensor in kept.items():
            assert torch.equal(parent[key], tensor), f"{name}: it changes its parents: '{key}'"
    check_resumption(derivation, parents, context, first)
    return first


def check_correction(correction: Correction) -> None:
    """Check that a correction gives finite logits, equally each time, and that nothing of it is left at a member.

    It corrects mixtures of three small networks with a convolution, BatchNorm, and a linear layer: hooks that it registers must
    be among the handles that it returns.
    """
    import numpy as np

    from harness.testing.samples import interpolated_networks

    name = correction.full_name
    network = interpolated_networks(lambda choice: correction)
    members = [network.logits(vertex, "test") for vertex in np.eye(3)]
    point = np.array([0.5, 0.3, 0.2])
    try:
        first = network.logits(point, "test", name)
        again = network.logits(point, "test", name)
    except PluginFailed as error:
        raise AssertionError(str(error)) from error
    assert np.isfinite(first).all(), f"{name}: the corrected network gives logits that are not finite"
    assert np.array_equal(first, again), f"{name}: correcting twice gives other logits"
    for member, vertex in enumerate(np.eye(3)):
        found = network.logits(vertex, "test", name)
        assert np.array_equal(found, members[member]), f"{name}: member {member} gives other logits after a correction"


def _check_no_shared_memory(name: str, states: Sequence[Mapping[str, Any]], parents: Sequence[StateDict]) -> None:
    owned = set()
    for parent in parents:
        for tensor in parent.values():
            if tensor.numel():
                owned.add(tensor.untyped_storage().data_ptr())
    for state in states:
        for key, tensor in state.items():
            shared = tensor.numel() and tensor.untyped_storage().data_ptr() in owned
            assert not shared, f"{name}: '{key}' of its output is a parent's own tensor; return copies"
