"""Alignments that are impossible for a network: their cells fail with one line, before anything is trained for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import harness
import odd_networks
import toys
from conftest import Lab
from harness import Alignment, DerivationContext, StateDict, TaskFailed
from harness.errors import BenchmarkError
from harness.execution.queue import TaskQueue
from harness.execution.run_plan import RunPlan
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.telemetry.events import TaskEnded

GraphOf = Callable[..., Graph]


class Fourier(nn.Module):
    """A network with an operation without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.fft.fft(self.first(x.flatten(1))).real)


class Smooth(nn.Module):
    """A network whose hidden units can be permuted, but not scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x.flatten(1)).tanh())


def linear() -> nn.Module:
    """Return a network without hidden units."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4))


def networks(make: Callable[[], nn.Module]) -> dict[str, Any]:
    """Return changes of a benchmark, for networks that are made by a function."""
    architecture = odd_networks.architecture(make)
    return {"catalogue": toys.catalogue(("architecture", architecture)), "architectures": [architecture.name]}


def no_units(name: str) -> str:
    """Return the line of an alignment for a network without hidden units."""
    what = "scaled" if name == "scales" else "permuted"
    reason = f"the network has no hidden units that can be {what}, so its members would stay as they are"
    return f"{name}: {reason}; leave the method out for it"


UNKNOWN = (
    "the network: the effect of operation 'aten._fft_r2c.default' on permutations of hidden units is not known; networks that "
    "use it cannot be permuted"
)
NO_STREAM = (
    "the network has no residual stream that can be rotated: all that reads it has to be linear maps behind a LayerNorm, as in "
    "pre-norm transformers; use another alignment"
)
NAMES = ("weights", "joint_weights", "activations", "ste", "ste_mm", "sinkhorn", "c2m3", "ot", "scales", "orthogonal")


def refusals(graph_of: GraphOf, lab: Lab, by: Sequence[Any], changes: dict[str, Any]) -> list[str]:
    """Run the deep ensemble and aligned ones; return why the latter failed, in order. Only the deep ensemble is trained."""
    methods: list[Any] = ["deep"]
    methods += [{"aligned": {"by": alignment, "label": str(number)}} for number, alignment in enumerate(by)]
    graph = graph_of(methods=methods, members=2, metrics=["ensemble_accuracy"], **changes)
    lab.run(graph, graph.benchmark.catalogue)
    rows = read_rows(lab.out)
    measured = rows[rows["metric"] == "ensemble_accuracy"]
    assert list(measured["status"]) == ["done"] + ["failed"] * len(by)
    assert len(lab.trained()) == 2
    return list(measured["message"])[1:]


def test_operation_without_a_rule(graph_of: GraphOf, lab: Lab) -> None:
    """Every alignment names the operation."""
    assert refusals(graph_of, lab, NAMES, networks(Fourier)) == [UNKNOWN] * len(NAMES)


def test_network_without_hidden_units(graph_of: GraphOf, lab: Lab) -> None:
    """Every alignment says that it could change nothing."""
    lines = [NO_STREAM if name == "orthogonal" else no_units(name) for name in NAMES]
    assert refusals(graph_of, lab, NAMES, networks(linear)) == lines


def test_what_perceptrons_do_not_allow(graph_of: GraphOf, lab: Lab) -> None:
    """They have no residual stream, and their training set is smaller than the number of images asked for."""
    by = ["orthogonal", {"orthogonal": {"rotate": False}}, {"activations": {"images": 10**9}}]
    images = "activations: images is 1000000000; the training set has 96: at most that, or leave it out"
    assert refusals(graph_of, lab, by, {}) == [NO_STREAM, NO_STREAM, images]


def test_units_that_cannot_be_scaled(graph_of: GraphOf, lab: Lab) -> None:
    """With permutations there is something to align."""
    assert refusals(graph_of, lab, ["scales"], networks(Smooth)) == [no_units("scales")]
    methods = [{"aligned": {"by": {"scales": {"permutations": True}}}}]
    graph = graph_of(methods=methods, metrics=["ensemble_accuracy"], **networks(Smooth))
    assert lab.run(graph, graph.benchmark.catalogue).failures == {}


def test_batches_of_one_image(graph_of: GraphOf, lab: Lab) -> None:
    """BatchNorm cannot normalize them, although the recipe's own batches are larger."""
    options: dict[str, Any] = {"batch_size": 2, "epochs": 1}
    by = [{"ste": options}, {"ste_mm": options}, {"sinkhorn": {**options, "loss": "midpoint"}}]
    changes = {
        "datasets": [{"blobs": {"size": 3}}],
        "architectures": [{"perceptron": {"batchnorm": True}}],
        "recipe": {"epochs": 1, "batch_size": 3, "augmentation": {"crop_padding": 0, "horizontal_flip": False}},
    }
    line = (
        "a batch of a single image has no statistics for BatchNorm; batch_size is 2, and the training set has 3: at least 2 "
        "images per batch"
    )
    assert refusals(graph_of, lab, by, changes) == [f"{name}: {line}" for name in ("ste", "ste_mm", "sinkhorn")]


@pytest.mark.parametrize("method", ["permuted", "multi_permuted", {"fused": {"by": "ot"}}], ids=str)
def test_methods_with_an_alignment_of_their_own(graph_of: GraphOf, lab: Lab, method: Any) -> None:
    """They fail alike, and nothing is trained for them."""
    graph = graph_of(methods=[method], metrics=["ensemble_accuracy"], **networks(linear))
    lab.run(graph, graph.benchmark.catalogue)
    rows = read_rows(lab.out)
    alignment = {"permuted": "weights", "multi_permuted": "joint_weights"}.get(str(method), "ot")
    assert set(rows[rows["metric"] == "ensemble_accuracy"]["message"]) == {no_units(alignment)}
    assert lab.trained() == []


@pytest.mark.parametrize("method", ["aligned", "fused"])
@pytest.mark.parametrize("by", NAMES)
def test_one_member(graph_of: GraphOf, method: str, by: str) -> None:
    """One member cannot be brought closer to others."""
    with pytest.raises(BenchmarkError, match=r"by: members is 1; an alignment brings at least 2 close to one another$"):
        graph_of(methods=["deep", {method: {"by": by}}], members=1, metrics=["ensemble_accuracy"])


@pytest.mark.parametrize("by", ["weights", "joint_weights"])
def test_method_with_one_member(graph_of: GraphOf, by: str) -> None:
    """A method that gives one member, whatever M is, cannot be aligned: the cell fails when it is planned."""
    (cell,) = graph_of(methods=[{"aligned": {"by": by, "of": "soup"}}], metrics=["ensemble_accuracy"]).cells
    where = "method 'aligned' on blobs × perceptron"
    assert cell.problem == f"{where}: by: soup has 1 member; an alignment brings at least 2 close to one another"


def test_average_of_one_member_as_it_is(graph_of: GraphOf) -> None:
    """Without an alignment, the average of one member is a network."""
    (cell,) = graph_of(methods=[{"fused": {"by": None}}], members=1, metrics=["ensemble_accuracy"]).cells
    assert len(cell.members) == 1


class Picky(Alignment):
    """A third party's alignment, which refuses every network."""

    name, version = "picky", 1

    class Options(harness.Options):
        """What its check does."""

        check_raises: bool = False
        saves: bool = False

    def check(self, context: DerivationContext) -> None:
        if self.options.saves:
            context.save(harness.DerivationState(1))
            assert context.resume() is None
            assert len(list(context.batches(0, 48))) == 2
        elif self.options.check_raises:
            raise ValueError("two\nlines")
        else:
            raise TaskFailed("picky: no network is good enough")

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        return [{name: tensor.clone() for name, tensor in parents[1].items()}], {}


THIRD = toys.catalogue(("derivation", Picky))


def test_check_of_a_third_party(graph_of: GraphOf, lab: Lab) -> None:
    """Its line is the row's; an exception names the plugin, and the traceback is kept."""
    line, raised = refusals(graph_of, lab, ["picky", {"picky": {"check_raises": True}}], {"catalogue": THIRD})
    assert line == "picky: no network is good enough"
    start = "derivation 'picky' of plugin 'toys' of distribution 'tests 0': check raised ValueError: two lines (test_impossible"
    assert raised.startswith(start)


def test_check_that_trains(graph_of: GraphOf, lab: Lab) -> None:
    """A check may read batches; what it saves is forgotten."""
    graph = graph_of(THIRD, methods=[{"aligned": {"by": {"picky": {"saves": True}}}}], metrics=["ensemble_accuracy"])
    assert lab.run(graph, THIRD).failures == {}


def test_checks_come_before_the_trainings(graph_of: GraphOf, lab: Lab) -> None:
    """Trainings that a derivation needs wait for its check, also if other methods need them; each check is made once."""
    by: list[Any] = ["weights", {"ste": {"epochs": 1}}]
    methods: list[Any] = ["deep", {"aligned": {"grid": {"by": by}}}]
    graph = graph_of(methods=methods, seeds=[0, 1], members=3, metrics=["ensemble_accuracy"])
    assert lab.run(graph).failures == {}
    kinds = [event.kind for event in lab.events if isinstance(event, TaskEnded)]
    assert kinds[:3] == ["check"] * 3
    assert kinds.count("check") == 3


def test_only_trainings_without_another_purpose_are_left_out(graph_of: GraphOf, lab: Lab) -> None:
    """A refused derivation does not stop one that is possible, whichever comes first."""
    for methods in (["permuted", "orthogonal"], ["orthogonal", "permuted"]):
        entries = [name if name == "permuted" else {"aligned": {"by": name}} for name in methods]
        folder = lab.folder / methods[0]
        folder.mkdir()
        own = Lab(folder)
        own.run(graph_of(methods=entries, metrics=["ensemble_accuracy"]))
        rows = read_rows(own.out)
        status = rows[rows["metric"] == "ensemble_accuracy"].set_index("method")["status"]
        assert dict(status) == {"permuted": "done", "aligned": "failed"}
        assert len(own.trained()) == 3


def test_broken_network(graph_of: GraphOf, lab: Lab) -> None:
    """Its own error is the reason, for the aligned ensemble, too, and the alignment is not tried."""

    def broken(net: odd_networks.Net, x: Tensor) -> Tensor:
        raise RuntimeError("no forward pass")

    changes = networks(lambda: odd_networks.Net(broken))
    graph = graph_of(methods=["deep", "permuted"], metrics=["ensemble_accuracy"], **changes)
    lab.run(graph, graph.benchmark.catalogue)
    rows = read_rows(lab.out)
    (message,) = set(rows[rows["metric"] == "ensemble_accuracy"]["message"])
    assert "architecture 'odd' of plugin 'toys' of distribution 'tests 0': forward raised RuntimeError: no forward" in message
    assert [event.status for event in lab.events if isinstance(event, TaskEnded)] == ["failed"]


def test_nothing_but_checks_is_ready(graph_of: GraphOf) -> None:
    """Several workers, too, begin no training before the derivations that need it are known to be possible."""
    graph = graph_of(methods=["deep", {"aligned": {"by": "orthogonal"}}])
    queue = TaskQueue(RunPlan(graph).update(graph.tasks))
    (first,) = queue.take()
    assert not queue
    queue.finish(first.key)
    (second,) = queue.take()
    assert not queue
    assert [task.kind for task in (first, second)] == ["check", "check"]
    assert [task.spec.derivation is None for task in (first, second)] == [True, False]  # type: ignore[union-attr]


def test_stored_members(graph_of: GraphOf, lab: Lab) -> None:
    """Without a training to do, the alignment is refused by the same line."""
    lab.run(graph_of(methods=["deep"], metrics=["ensemble_accuracy"]))
    lab.run(graph_of(methods=[{"aligned": {"by": "orthogonal"}}], metrics=["ensemble_accuracy"]))
    assert NO_STREAM in set(read_rows(lab.out)["message"])
    assert len(lab.trained()) == 3
