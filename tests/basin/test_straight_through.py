"""`ste` and `ste_mm`: what they reduce to, their gradient, an independent implementation, and bad input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

import harness
import toys
from conftest import Lab
from harness import Alignment, DerivationContext, DerivationState, StateDict, TaskFailed, streams
from harness.errors import BenchmarkError
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.testing import check_alignment, derivation_context
from harness_basin.alignments import JointStraightThroughMatching, StraightThroughMatching, WeightMatching
from harness_basin.alignments.mixture_network import MixtureNetwork
from harness_basin.matching import Permutations, Symmetry, derive_symmetry, match, permute, random_permutations
from harness_basin.matching.straight_through import LatentRule, StraightThrough, permutations_named
from harness_vision.digits import Digits
from harness_vision.resnet20 import ResNet20
from harness_vision.vit import ViT

IMAGES = 96


def context_of(width: int = 16, batchnorm: bool = False, size: int = IMAGES) -> DerivationContext:
    """Return a context of perceptrons on toy images."""
    architecture = toys.Perceptron(toys.Perceptron.Options(width=width, batchnorm=batchnorm))
    return derivation_context(architecture, toys.Blobs(toys.Blobs.Options(size=size)), Path())


def symmetry_of(context: DerivationContext) -> Symmetry:
    """Return the permutation symmetry of a context's network."""
    return derive_symmetry(context.network().eval(), context.normalize(context.test.images[:2]))


def trained(context: DerivationContext, seed: int, epochs: int = 6) -> StateDict:
    """Return the weights of a trained network."""
    module = context.network()
    with streams.seeded(streams.key("member", seed)):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.4)
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    for epoch in range(epochs):
        for images, labels in context.batches(epoch, 16):
            optimizer.zero_grad()
            F.cross_entropy(module(images), labels).backward()
            optimizer.step()
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def members_of(context: DerivationContext, count: int, epochs: int = 6) -> list[StateDict]:
    """Return trained networks, or random ones after no epoch."""
    return [trained(context, seed, epochs) for seed in range(count)]


def derived(alignment: Alignment, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Any, Mapping[str, Any]]:
    """Return the result of an alignment and its facts."""
    return alignment.derive(parents, context)


def ste(**options: Any) -> StraightThroughMatching:
    """Return the alignment of a pair."""
    return StraightThroughMatching(StraightThroughMatching.Options(**options))


def ste_mm(members: int, **options: Any) -> JointStraightThroughMatching:
    """Return the alignment of an ensemble."""
    return JointStraightThroughMatching(JointStraightThroughMatching.Options(members=members, **options))


def recording(context: DerivationContext, saved: list[DerivationState]) -> DerivationContext:
    """Return a context that keeps copies of the states that are saved."""

    def save(state: DerivationState) -> None:
        saved.append(replace(state, tensors={name: tensor.clone() for name, tensor in state.tensors.items()}))

    return replace(context, save=save)


def equal(one: StateDict, other: StateDict) -> bool:
    """Return whether two state dicts are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# What they reduce to


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_pair_without_a_learning_rate(batchnorm: bool, optimizer: str) -> None:
    """It equals weight matching to the bit, as it does without an epoch."""
    context = context_of(batchnorm=batchnorm)
    parents = members_of(context, 2)
    ((expected,), facts) = derived(WeightMatching(), parents, context)
    for options in ({"learning_rate": 0.0, "epochs": 3, "optimizer": optimizer}, {"epochs": 0}):
        ((found,), own) = derived(ste(**options), parents, context)
        assert equal(found, expected)
        assert own["objective"] == pytest.approx(facts["objective"], rel=1e-12)
        assert own["best_epoch"] == 0
        assert len(set(own["losses"])) == 1
    assert not equal(expected, parents[1])


@pytest.mark.parametrize("batchnorm", [False, True])
def test_ensemble_without_a_learning_rate(batchnorm: bool) -> None:
    """It equals matching each member to the first."""
    context = context_of(batchnorm=batchnorm)
    symmetry = symmetry_of(context)
    parents = members_of(context, 4)
    found, facts = derived(ste_mm(4, learning_rate=0.0, epochs=2), parents, context)
    assert equal(found[0], parents[0])
    for number, (aligned, parent) in enumerate(zip(found[1:], parents[1:], strict=True)):
        key = context.stream if number == 0 else streams.key("star", context.stream, number)
        expected = permute(symmetry, match(symmetry, parents[0], parent, stream=key).permutations, parent)
        assert equal(aligned, expected)
    assert facts["gradient_steps"] == 2
    assert facts["images"] == 2 * IMAGES + 4 * IMAGES


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("rule", [{"optimizer": "sgd", "learning_rate": 3.0}, {"optimizer": "adam", "learning_rate": 0.1}])
def test_two_members_at_the_midpoint(batchnorm: bool, rule: dict[str, Any]) -> None:
    """Then STE-MM is STE: the permutations and latent points are equal after every step."""
    context = context_of(batchnorm=batchnorm)
    parents = members_of(context, 2, epochs=0)
    one: list[DerivationState] = []
    other: list[DerivationState] = []
    options = {"epochs": 6, "batch_size": IMAGES, **rule}
    ((moved,), facts) = derived(ste(**options), parents, recording(context, one))
    pair, joint_facts = derived(ste_mm(2, center=True, **options), parents, recording(context, other))
    assert equal(pair[1], moved)
    assert [state.epoch for state in one] == [1, 2, 3, 4, 5, 6]
    for left, right in zip(one, other, strict=True):
        assert equal(dict(left.tensors), dict(right.tensors))
        assert left.values == right.values
    assert joint_facts["objective"] == 2 * facts["objective"]
    moves = {tuple(state.tensors["permutations.0.0"].tolist()) for state in one}
    assert len(moves) > 1, "the permutations never change, so this test says nothing"


# An independent implementation


def straightforward(
    context: DerivationContext, parents: Sequence[StateDict], optimizer: str, rate: float, steps: int, center: bool
) -> tuple[list[list[Permutations]], list[StateDict]]:
    """Return the permutations after each step, and the latent points, of a training by automatic differentiation.

    A batch holds all images. The network has no running statistics.
    """
    symmetry = symmetry_of(context)
    module = context.network().train()
    latents = [{name: tensor.clone().requires_grad_() for name, tensor in parents[0].items()} for _ in parents[1:]]
    parameters = [tensor for latent in latents for tensor in latent.values()]
    if optimizer == "adam":
        descent: torch.optim.Optimizer = torch.optim.Adam(parameters, rate)
    else:
        descent = torch.optim.SGD(parameters, rate, momentum=0.9)
    found: list[Permutations] = []
    trace = []
    for step in range(steps + 1):
        for number, parent in enumerate(parents[1:]):
            key = context.stream if number == 0 else streams.key("star", context.stream, number)
            start = None
            if step:
                key, start = streams.key("rematch", context.stream, step, number), found[number]
            matched = match(symmetry, latents[number], parent, stream=key, start=start).permutations
            found[number : number + 1] = [matched]
        trace.append(list(found))
        if step == steps:
            break
        numbers = streams.uniform(streams.key("mixture", context.stream, step), torch.arange(len(parents))).double()
        weights = -torch.log(numbers + 2.0**-25)
        weights = torch.full_like(weights, 1.0) if center else weights
        weights = (weights / weights.sum()).float()
        mixture = {name: weights[0] * tensor for name, tensor in parents[0].items()}
        for number, parent in enumerate(parents[1:]):
            aligned = permute(symmetry, found[number], parent)
            for name, tensor in mixture.items():
                latent = latents[number][name]
                mixture[name] = tensor + weights[number + 1] * (aligned[name] + latent - latent.detach())
        ((images, labels),) = context.batches(step, IMAGES)
        descent.zero_grad()
        F.cross_entropy(functional_call(module, mixture, (images,)), labels).backward()
        descent.step()
    return trace, [{name: tensor.detach() for name, tensor in latent.items()} for latent in latents]


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 3.0), ("adam", 0.1)])
@pytest.mark.parametrize(("members", "center"), [(2, True), (3, False), (3, True)])
def test_steps_of_an_independent_implementation(optimizer: str, rate: float, members: int, center: bool) -> None:
    """Permutations and latent points are those of automatic differentiation with torch's optimizers and cold matching."""
    context = context_of()
    symmetry = symmetry_of(context)
    parents = members_of(context, members, epochs=0)
    trace, latents = straightforward(context, parents, optimizer, rate, 8, center)
    saved: list[DerivationState] = []
    options = {"optimizer": optimizer, "learning_rate": rate, "center": center, "epochs": 8, "batch_size": IMAGES}
    derived(ste_mm(members, **options), parents, recording(context, saved))
    assert len({tuple(entry[0][0].tolist()) for entry in trace}) > 1, "the permutations never change"
    for expected, state in zip(trace[1:], saved, strict=True):
        found = permutations_named("permutations", state.tensors, members - 1, len(symmetry.groups))
        for one, other in zip(found, expected, strict=True):
            assert all(map(torch.equal, one, other))
    for number, latent in enumerate(latents):
        expected_latent = torch.cat([latent[name].flatten() for name in sorted(latent)])
        torch.testing.assert_close(saved[-1].tensors["latents"][number], expected_latent, rtol=1e-4, atol=1e-5)


# The gradient


def doubled(context: DerivationContext) -> DerivationContext:
    """Return a context whose network computes in float64."""
    return replace(context, network=lambda: context.network().double())


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.2, 0.8)])
def test_gradient_of_a_latent_point(weights: tuple[float, float]) -> None:
    """It is λ times that of the loss at the mixture, by central differences in float64: half of it at the midpoint."""
    context = doubled(context_of())
    first, second = ({name: tensor.double() for name, tensor in state.items()} for state in members_of(context_of(), 2))
    rule = LatentRule("sgd", learning_rate=1.0)
    straight = StraightThrough(symmetry_of(context_of()), [first, second], rule, stream=0, max_sweeps=10)
    straight.match_to_first()
    network = MixtureNetwork(context, first)
    images, labels = context.normalize(context.train.images).double(), context.train.labels
    mixed = torch.tensor(weights, dtype=torch.float64)
    mixture = {name: tensor.clone() for name, tensor in straight.mixture(mixed).items()}
    _, gradient = network.gradient(mixture, images, labels)
    before = straight.tensors()["latents"].clone()
    straight.step(straight.layout.flatten(gradient), mixed)
    moved = straight.layout.views((before - straight.tensors()["latents"])[0])

    def loss(name: str, place: int, change: float) -> float:
        changed = mixture[name].clone()
        changed.view(-1)[place] += change
        return network.gradient({**mixture, name: changed}, images, labels)[0]

    for name, places in (("1.weight", range(0, 256, 37)), ("1.bias", (0, 7)), ("3.weight", range(0, 64, 9)), ("3.bias", (2,))):
        for place in places:
            slope = (loss(name, place, 1e-5) - loss(name, place, -1e-5)) / 2e-5
            assert float(moved[name].flatten()[place]) == pytest.approx(weights[1] * slope, rel=1e-6, abs=1e-9)


# Contract and what is kept


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("alignment", [ste(epochs=2), ste_mm(1, epochs=2, batch_size=40)], ids=["ste", "ste_mm"])
def test_contract(alignment: Alignment, batchnorm: bool) -> None:
    """Planted permutations are recovered exactly, functions stay, and a training that continues ends with the same bits."""
    context = context_of(width=40, batchnorm=batchnorm)
    symmetry = symmetry_of(context)
    check_alignment(alignment, context, lambda state, seed: permute(symmetry, random_permutations(symmetry, seed), state))


def loss_of_the_mean(context: DerivationContext, states: Sequence[StateDict]) -> float:
    """Return the loss on the training images of the mean of some states, with running statistics of its own."""
    mean = dict(states[0])
    for name, tensor in mean.items():
        if tensor.is_floating_point():
            mean[name] = torch.stack([state[name] for state in states]).mean(0)
    module = context.network()
    module.load_state_dict(context.recompute_statistics(mean))
    with torch.no_grad():
        logits = module.eval()(context.normalize(context.train.images))
    return float(F.cross_entropy(logits.double(), context.train.labels))


@pytest.mark.parametrize("batchnorm", [False, True])
def test_permutations_that_are_kept(batchnorm: bool) -> None:
    """They have the lowest loss that was found, at most that of weight matching; the facts have the losses."""
    context = context_of(batchnorm=batchnorm)
    parents = members_of(context, 3)
    found, facts = derived(ste_mm(3, epochs=12, batch_size=24, learning_rate=0.03), parents, context)
    matched, _ = derived(ste_mm(3, epochs=0), parents, context)
    assert facts["loss"] == min(facts["losses"]) == facts["losses"][facts["best_epoch"]] < facts["losses"][0]
    assert len(facts["losses"]) == 13
    assert len(facts["training_losses"]) == 12
    assert facts["loss"] == pytest.approx(loss_of_the_mean(context, found), rel=1e-5)
    assert facts["losses"][0] == pytest.approx(loss_of_the_mean(context, matched), rel=1e-5)
    assert facts["identity_loss"] == pytest.approx(loss_of_the_mean(context, parents), rel=1e-5)
    assert facts["worse_than_identity"] is (facts["loss"] > facts["identity_loss"])
    assert facts["gradient_steps"] == 48
    for aligned, parent in zip(found, parents, strict=True):
        for name in parent:
            assert torch.equal(aligned[name].flatten().sort().values, parent[name].flatten().sort().values)


def test_result_that_is_worse_than_the_identity() -> None:
    """It is returned, and the facts say so: matching weights may raise the loss."""
    context = context_of(width=3)
    first = trained(context, 0)
    second = {name: tensor + 0.01 for name, tensor in first.items()}
    second["1.weight"] = second["1.weight"].clone()
    facts = {}
    for seed in range(40):
        symmetry = symmetry_of(context)
        moved = permute(symmetry, random_permutations(symmetry, seed), trained(context, seed + 1, epochs=1))
        _, facts = derived(ste(epochs=0), [first, moved], context)
        assert facts["worse_than_identity"] is (facts["loss"] > facts["identity_loss"])
        if facts["worse_than_identity"]:
            return
    raise AssertionError("no such pair was found")


# Bad input


def test_network_alone() -> None:
    """It is returned unchanged, without a step."""
    context = context_of()
    parent = trained(context, 0)
    alignment = ste_mm(1)
    (found,), facts = derived(alignment, [parent], context)
    assert equal(found, parent)
    assert all(found[name].data_ptr() != parent[name].data_ptr() for name in found)
    assert (facts["gradient_steps"], facts["images"], facts["assignments"]) == (0, 0, 0)
    assert alignment.epochs == 0.0


def test_network_without_hidden_units() -> None:
    """The members are returned unchanged."""
    context = replace(context_of(), network=lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 4)))
    parents = [{name: torch.randn_like(t) for name, t in context.network().state_dict().items()} for _ in range(2)]
    ((found,), facts) = derived(ste(), parents, context)
    assert equal(found, parents[1])
    assert facts["gradient_steps"] == 0


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("batchnorm", [False, True])
def test_training_set_smaller_than_a_batch(size: int, batchnorm: bool) -> None:
    """A batch has all images."""
    context = context_of(size=size, batchnorm=batchnorm)
    parents = members_of(context_of(batchnorm=batchnorm), 2)
    _, facts = derived(ste(epochs=2), parents, context)
    assert facts["gradient_steps"] == 2
    assert facts["images"] == 2 * size + 4 * size


def changed(state: StateDict, name: str, value: float) -> StateDict:
    """Return a copy of a state with another value somewhere."""
    result = {key: tensor.clone() for key, tensor in state.items()}
    result[name].view(-1)[0] = value
    return result


@pytest.mark.parametrize(
    ("name", "value", "options", "message"),
    [
        ("3.bias", float("nan"), {}, "parent 1 of the alignment: '3.bias' has values that are not finite; has "),
        (
            "1.weight",
            float("inf"),
            {},
            "parent 1 of the alignment: '1.weight' has values that are not finite; has ",
        ),
        (
            "3.bias",
            3e38,
            {},
            "ste: the loss of step 1 is inf; have the members diverged, or is learning_rate, 0.01, too large?",
        ),
        ("3.bias", 0.0, {"learning_rate": 1e38}, "matching: an inner product of the weights is "),
    ],
)
def test_diverged(name: str, value: float, options: dict[str, Any], message: str) -> None:
    """The task fails, with a line that says where."""
    context = context_of()
    parents = members_of(context, 2)
    parents[1] = changed(parents[1], name, value)
    with pytest.raises(TaskFailed) as raised:
        derived(ste(batch_size=8, **options), parents, context)
    assert str(raised.value).startswith(message)


def test_diverged_during_a_step() -> None:
    """The message has the step."""
    context = context_of()
    batches = [(torch.full((4, 1, 4, 4), float("nan")), torch.arange(4))]

    def broken(epoch: int, batch_size: int, *, augmented: bool = False) -> Any:
        return iter(batches)

    expected = "ste_mm: the loss of step 1 is nan; have the members diverged, or is learning_rate, 0.001, too large?"
    with pytest.raises(TaskFailed) as raised:
        derived(ste_mm(2), members_of(context, 2), replace(context, batches=broken))
    assert str(raised.value) == expected


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ({"ste": {"learning_rate": -0.1}}, r"aligned\.by\.ste\.learning_rate: -0\.1 is out of range; a number of at least 0"),
        ({"ste": {"epochs": -1}}, r"aligned\.by\.ste\.epochs: -1 is out of range; an integer of at least 0"),
        ({"ste_mm": {"batch_size": 0}}, r"aligned\.by\.ste_mm\.batch_size: 0 is out of range; an integer of at least 1"),
        ({"ste_mm": {"members": 3}}, r"by: members is 3; leave it out: it is the benchmark's \(3\)"),
        ({"ste_mm": {"optimizer": "adamw"}}, r"aligned\.by\.ste_mm\.optimizer: "),
        ("ste_nm", r"unknown alignment 'ste_nm'; did you mean 'ste_mm'\?"),
    ],
)
def test_wrong_options(graph_of: Callable[..., Graph], by: Any, message: str) -> None:
    """They are refused before anything runs."""
    with pytest.raises(BenchmarkError, match=message):
        graph_of(methods=[{"aligned": {"by": by}}])


def test_benchmark(graph_of: Callable[..., Graph], lab: Lab) -> None:
    """Both run under one benchmark: the pairwise one costs its epochs M - 1 times, the joint one once."""
    by = [{"ste": {"epochs": 2}}, {"ste_mm": {"epochs": 3}}, {"ste_mm": {"epochs": 0}}]
    graph = graph_of(methods=["deep", {"aligned": {"grid": {"by": by}}}], members=3)
    assert [cell.epochs_alone for cell in graph.cells] == [12.0, 16.0, 15.0, 12.0]
    assert [cell.epochs_new for cell in graph.cells] == [12.0, 4.0, 3.0, 0.0]
    lab.run(graph)
    rows = read_rows(lab.out)
    assert set(rows["status"]) == {"done"}
    assert rows[rows["metric"] == "ensemble_accuracy"]["value"].nunique() == 1


def test_images_of_the_subset(tmp_path: Path) -> None:
    """Beyond 5,000 training images, 5,000 drawn from the stream are compared, equal in each evaluation."""
    context = context_of(size=5100)
    network = MixtureNetwork(context, trained(context, 0, epochs=0))
    state = trained(context, 0, epochs=0)
    assert network.subset_loss(state) == network.subset_loss(state)
    assert network.images == 10_000
    other = MixtureNetwork(replace(context, stream=context.stream + 1), state)
    assert other.subset_loss(state) != network.subset_loss(state)


def test_network_with_dropout() -> None:
    """Steps draw no random masks: the gradient of a batch is the same each time."""
    options = toys.Perceptron.Options(dropout=0.5, batchnorm=True)
    context = derivation_context(toys.Perceptron(options), toys.Blobs(), Path())
    state = context.network().state_dict()
    network = MixtureNetwork(context, state)
    images, labels = next(context.batches(0, 32))

    def gradient() -> dict[str, Tensor]:
        return network.gradient(state, images, labels)[1]

    assert equal(gradient(), gradient())


NETWORKS: dict[str, Callable[[], harness.Architecture]] = {
    "resnet20": lambda: ResNet20(ResNet20.Options(width=0.25)),
    "vit": lambda: ViT(ViT.Options(width=16, depth=1, heads=2, mlp=24, patch=4)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_convolutions_and_attention(name: str, tmp_path: Path) -> None:
    """Without a learning rate the result is that of weight matching; with one, functions stay, nested heads included."""
    digits = Digits(Digits.Options(train_size=96, test_size=64))
    context = derivation_context(NETWORKS[name](), digits, tmp_path)
    parents = []
    for seed in range(3):
        module = context.network()
        with streams.seeded(streams.key("member", seed)):
            for parameter in module.parameters():
                parameter.data += 0.05 * torch.randn_like(parameter)
        parents.append(module.state_dict())
    still, _ = derived(ste_mm(3, epochs=1, learning_rate=0.0), parents, context)
    start, _ = derived(ste_mm(3, epochs=0), parents, context)
    assert all(map(equal, still, start))
    moved, facts = derived(ste_mm(3, epochs=2, batch_size=32, learning_rate=0.03), parents, context)
    assert max(facts["function_differences"]) < 1e-12
    assert facts["loss"] <= facts["losses"][0]
    for before, after in zip(parents, moved, strict=True):
        for key in before:
            assert torch.equal(before[key].flatten().sort().values, after[key].flatten().sort().values)
