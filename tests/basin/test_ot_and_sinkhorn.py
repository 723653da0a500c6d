"""The alignments `ot` and `sinkhorn`, and the method `fused`: contracts, facts, training, soft maps, bad input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import harness
import toys
from conftest import Lab
from harness import Alignment, Architecture, DerivationContext, DerivationState, PluginError, StateDict, TaskFailed
from harness.errors import BenchmarkError
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.testing import check_alignment, check_derivation, derivation_context
from harness_basin.alignments import OptimalTransport, SinkhornRebasin
from harness_basin.averages.averaging import UniformSoup
from harness_basin.averages.fused import FusedEnsemble
from harness_basin.matching import derive_symmetry, permute, random_permutations

GraphOf = Callable[..., Graph]
FACTS = {"objective", "assignments", "images", "gradient_steps", "function_difference"}


class Linear(Architecture):
    """A network without hidden units."""

    name, version = "linear", 1

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], num_classes))


class Tied(nn.Module):
    """A network that uses one weight twice, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 6)
        self.tied = nn.Linear(6, 6)
        self.again = self.tied
        self.last = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x.flatten(1)).relu()
        return self.last(self.again(self.tied(x).relu()).relu())


class TiedArchitecture(Architecture):
    """The network with a tied weight."""

    name, version = "tied", 1

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        return Tied()


@pytest.fixture
def context(tmp_path: Path) -> DerivationContext:
    """Return a context for perceptrons of modest width."""
    return derivation_context(toys.Perceptron(toys.Perceptron.Options(width=24)), toys.Blobs(), tmp_path)


@pytest.fixture
def planted(context: DerivationContext) -> Callable[[StateDict, int], StateDict]:
    """Return a function that permutes hidden units at random."""
    symmetry = derive_symmetry(context.network().eval(), context.normalize(context.test.images[:2]))
    return lambda state, seed: permute(symmetry, random_permutations(symmetry, seed), state)


def noisy(context: DerivationContext, seed: int) -> StateDict:
    """Return the context's network with noise."""
    generator = torch.Generator().manual_seed(seed)
    state = context.network().state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            state[name] = tensor + 0.3 * torch.randn(tensor.shape, generator=generator).abs()
    return state


def sinkhorn(**options: Any) -> SinkhornRebasin:
    """Return the alignment with options."""
    return SinkhornRebasin(SinkhornRebasin.Options(**options))


def transport(**options: Any) -> OptimalTransport:
    """Return the alignment with options."""
    return OptimalTransport(OptimalTransport.Options(**options))


@pytest.mark.parametrize(
    "alignment",
    [transport(), transport(normalize=True, vectors=True), sinkhorn(), sinkhorn(loss="l1"), sinkhorn(start="identity")],
    ids=lambda alignment: f"{alignment.name} {sorted(alignment.options.model_fields_set)}",
)
def test_contract(alignment: Alignment, context: DerivationContext, planted: Callable[[StateDict, int], StateDict]) -> None:
    """Planted permutations are recovered exactly, functions stay, and the first member is not moved."""
    check_alignment(alignment, context, planted)


@pytest.mark.parametrize("loss", ["midpoint", "random"])
@pytest.mark.parametrize("batchnorm", [False, True])
def test_contract_of_losses_on_images(loss: str, batchnorm: bool, tmp_path: Path) -> None:
    """The result is deterministic and equal when continued from every saved state; the function stays."""
    architecture = toys.Perceptron(toys.Perceptron.Options(width=8, batchnorm=batchnorm, dropout=0.5))
    context = derivation_context(architecture, toys.Blobs(), tmp_path)
    alignment = sinkhorn(loss=loss, epochs=3, batch_size=24)
    parents = [noisy(context, 0), noisy(context, 1)]
    check_derivation(alignment, parents, context)
    _, facts = alignment.derive(parents, context)
    assert alignment.epochs == 3
    assert facts["gradient_steps"] == 12
    assert len(facts["trace"]) == 3
    assert facts["loss"] <= facts["identity_loss"]
    rated = 96 * {"midpoint": 1, "random": 3}[loss]
    assert facts["images"] == 3 * 96 + (1 + 3 + 2) * rated  # identity, epochs, and the last maps before and after rounding
    assert facts["function_difference"] < 1e-9


def test_training_lowers_the_loss_between_networks(
    context: DerivationContext, planted: Callable[[StateDict, int], StateDict]
) -> None:
    """Between a network and a permuted copy of it, the loss on images comes close to the network's own."""
    state = noisy(context, 0)
    _, facts = sinkhorn(loss="midpoint", epochs=12, batch_size=24).derive([state, planted(state, 1)], context)
    assert facts["trace"][-1] < facts["trace"][0]
    assert facts["soft_loss"] < facts["identity_loss"]


def test_loss_between_networks(context: DerivationContext) -> None:
    """The first step's loss is that of the plain network at the midpoint of θ_1 and the soft maps of θ_2."""
    saved: list[DerivationState] = []
    parents = [noisy(context, 0), noisy(context, 1)]
    alignment = sinkhorn(loss="midpoint", epochs=1, batch_size=96, inverse_temperature=1e-9)
    _, facts = alignment.derive(parents, dataclasses.replace(context, save=saved.append))
    uniform = {name: tensor.clone() for name, tensor in parents[1].items()}  # maps of logits near 0 average all units
    for name in ("1.weight", "1.bias"):
        uniform[name] = uniform[name].mean(0, keepdim=True).expand_as(uniform[name])
    uniform["3.weight"] = uniform["3.weight"].mean(1, keepdim=True).expand_as(uniform["3.weight"])
    network = context.network().eval()
    network.load_state_dict({name: (tensor + uniform[name]) / 2 for name, tensor in parents[0].items()})
    with torch.no_grad():
        logits = network(context.normalize(context.train.images))
    assert facts["trace"] == [pytest.approx(float(nn.functional.cross_entropy(logits, context.train.labels)), rel=1e-5)]
    assert [state.epoch for state in saved] == [1]


@pytest.mark.parametrize(
    "alignment", [transport(), sinkhorn(), sinkhorn(loss="random", epochs=1)], ids=lambda alignment: str(alignment.options)[:15]
)
def test_tied_weights(alignment: Alignment, tmp_path: Path) -> None:
    """A weight with two names is moved as one, and the function stays."""
    context = derivation_context(TiedArchitecture(), toys.Blobs(), tmp_path)
    parents = [noisy(context, 0), noisy(context, 1)]
    for parent in parents:
        parent |= {f"again.{name}": parent[f"tied.{name}"].clone() for name in ("weight", "bias")}
    (moved,) = check_derivation(alignment, parents, context)
    assert torch.equal(moved["again.weight"], moved["tied.weight"])


@pytest.mark.parametrize("alignment", [transport(), sinkhorn(steps=2)], ids=lambda alignment: alignment.name)
def test_facts(alignment: Alignment, context: DerivationContext) -> None:
    """Facts have the names that all alignments share; the objective is the inner product of the moved weights."""
    parents = [noisy(context, 0), noisy(context, 1)]
    (moved,), facts = alignment.derive(parents, context)
    assert set(facts) >= FACTS
    names = ("1.weight", "1.bias", "3.weight")
    expected = sum(float((parents[0][name].double() * moved[name].double()).sum()) for name in names)
    assert facts["objective"] == pytest.approx(expected)
    assert facts["norm_ratio"] == pytest.approx(1)
    assert facts["images"] == 0
    assert facts["gradient_steps"] == (2 if alignment.name == "sinkhorn" else 0)
    assert facts["assignments"] == (2 if alignment.name == "sinkhorn" else 1)


def test_greedy_transport_says_if_it_is_worse_than_the_identity(context: DerivationContext) -> None:
    """With one hidden layer the transport is optimal: its cost is at most the identity's."""
    _, facts = transport().derive([noisy(context, 0), noisy(context, 1)], context)
    assert facts["cost"] <= facts["identity_cost"]
    assert facts["worse_than_identity"] is False


@pytest.mark.parametrize(
    "alignment", [transport(regularization=0.1), sinkhorn(soft=True)], ids=lambda alignment: alignment.name
)
def test_soft_maps_change_the_function(alignment: Alignment, context: DerivationContext) -> None:
    """The alignment says so, and how much; averages of units are shorter than the units."""
    assert not alignment.keeps_function
    _, facts = alignment.derive([noisy(context, 0), noisy(context, 1)], context)
    assert facts["function_difference"] > 1e-6
    assert 0 < facts["norm_ratio"] < 1


@pytest.mark.parametrize("alignment", [transport(), sinkhorn()], ids=lambda alignment: alignment.name)
@pytest.mark.parametrize(("name", "value"), [("1.weight", torch.nan), ("3.bias", torch.inf)])
def test_diverged_member(alignment: Alignment, name: str, value: float, context: DerivationContext) -> None:
    """Weights that are not finite fail the task, moved or not; the message names the parent and the parameter."""
    parents = [noisy(context, 0), noisy(context, 1)]
    parents[1][name].view(-1)[0] = value
    with pytest.raises(TaskFailed, match=rf"^parent 1 of the alignment: '{name}' has values that are not finite; has this"):
        alignment.derive(parents, context)


@pytest.mark.parametrize(
    "alignment", [transport(), sinkhorn(), sinkhorn(loss="random", epochs=1)], ids=lambda alignment: str(alignment.options)[:30]
)
def test_network_without_hidden_units(alignment: Alignment, tmp_path: Path) -> None:
    """The network is returned as it is."""
    context = derivation_context(Linear(), toys.Blobs(), tmp_path)
    parents = [noisy(context, 0), noisy(context, 1)]
    (moved,) = check_derivation(alignment, parents, context)
    assert all(torch.equal(moved[name], tensor) for name, tensor in parents[1].items())


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ({"sinkhorn": {"steps": 0}}, r"aligned\.by\.sinkhorn\.steps: 0 is out of range; an integer of at least 1"),
        ({"sinkhorn": {"epochs": 0}}, r"aligned\.by\.sinkhorn\.epochs: 0 is out of range; an integer of at least 1"),
        (
            {"sinkhorn": {"loss": "l3"}},
            r"aligned\.by\.sinkhorn\.loss: unknown value 'l3'; did you mean 'l2'\? known: l1, l2, midp",
        ),
        ({"sinkhorn": {"inverse_temperature": 0}}, r"aligned\.by\.sinkhorn\.inverse_temperature: 0 is out of range"),
        ({"ot": {"regularization": 0}}, r"aligned\.by\.ot\.regularization: 0 is out of range; a number above 0"),
        ({"ot": {"regularization": -0.1}}, r"aligned\.by\.ot\.regularization: -0\.1 is out of range; a number above 0"),
        (
            {"ot": {"regularization": 0.1}},
            r"by: with these options ot changes the functions of members, which then have no joint connectivity; use the "
            r"method fused$",
        ),
        ({"sinkhorn": {"soft": True}}, r"by: with these options sinkhorn changes the functions of members"),
        ("sinkhorm", r"aligned\.by: unknown alignment 'sinkhorm'; did you mean 'sinkhorn'\?"),
    ],
    ids=str,
)
def test_wrong_options(graph_of: GraphOf, by: Any, message: str) -> None:
    """They are refused before anything runs, in one line."""
    with pytest.raises(BenchmarkError, match=message) as error:
        graph_of(methods=[{"aligned": {"by": by}}])
    assert len(str(error.value).splitlines()) == 1


def test_average_of_aligned_members(tmp_path: Path) -> None:
    """The average is the mean of all parameters; integers are the first parent's, and running statistics fit the mean."""
    architecture = toys.Perceptron(toys.Perceptron.Options(width=6, batchnorm=True))
    context = derivation_context(architecture, toys.Blobs(), tmp_path)
    parents = [noisy(context, seed) for seed in range(3)]
    (mean,) = check_derivation(UniformSoup(), parents, context)
    for name in ("1.weight", "2.bias", "4.weight"):
        expected = torch.stack([parent[name].double() for parent in parents]).mean(0)
        torch.testing.assert_close(mean[name].double(), expected, rtol=1e-6, atol=1e-7)
    recomputed = context.recompute_statistics(mean)
    torch.testing.assert_close(mean["2.running_mean"], recomputed["2.running_mean"])
    assert not torch.equal(mean["2.running_mean"], parents[0]["2.running_mean"])


def test_fused_networks_in_a_run(graph_of: GraphOf, lab: Lab) -> None:
    """Each is one network. By permutations, it is the center of the aligned ensemble; soft maps are accepted."""
    grid = [None, "ot", {"ot": {"regularization": 0.1}}, "joint_weights", {"sinkhorn": {"soft": True, "steps": 3}}]
    trained = {"sinkhorn": {"loss": "random", "epochs": 2}}
    methods: list[Any] = [
        "deep",
        {"fused": {"grid": {"by": grid}}},
        {"aligned": {"by": "ot"}},
        {"aligned": {"by": trained, "label": "trained"}},
    ]
    graph = graph_of(methods=methods, members=3, metrics=["ensemble_accuracy"])
    members = {cell.spec.method.label: cell.members for cell in graph.cells}
    assert [len(found) for found in members.values()] == [3, 1, 1, 1, 1, 1, 3, 3]
    fused = [found[0] for label, found in members.items() if label.startswith("fused")]
    assert [parent.key for parent in fused[1].parents] == [member.key for member in members["aligned"]]
    assert [parent.key for parent in fused[0].parents] == [member.key for member in members["deep"]]
    lab.run(graph)
    rows = read_rows(lab.out)
    assert set(rows["status"]) == {"done"}
    accuracy = rows[rows["metric"] == "ensemble_accuracy"].set_index("method")["value"]
    assert accuracy["aligned"] == accuracy["deep"] == accuracy["trained"]
    new = rows[rows["metric"] == "new_epochs"].set_index("method")["value"]
    assert new["aligned"] == 0
    assert new["trained"] == 2 * 2


def test_members_of_a_joint_alignment(graph_of: GraphOf) -> None:
    """Their number is the benchmark's."""
    with pytest.raises(BenchmarkError, match=r"by: members is 4; leave it out: it is the benchmark's \(3\)$"):
        graph_of(methods=[{"fused": {"by": {"joint_weights": {"members": 4}}}}])


def test_method_without_its_alignment() -> None:
    """Made without the catalogue, the method cannot find its alignment, and says so."""
    with pytest.raises(PluginError, match=r"^fused: made without its alignment; make it with the catalogue$"):
        FusedEnsemble().build(None)  # type: ignore[arg-type]


def test_alignments_keep_functions_by_default() -> None:
    """An alignment that does not say otherwise keeps functions."""

    class Third(Alignment):
        name = "third"

        class Options(harness.Options):
            """Options."""

        def derive(self, parents: Any, context: Any) -> Any:
            raise NotImplementedError

    assert Third().keeps_function
