"""The training task of several networks: what it stores, how it continues, and what follows from its members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import harness
import toys
from conftest import RECIPE, Lab, stop_after
from harness import Cell, Coupling, EnsembleBuilder, Weights
from harness.api.specs import TrainSpec
from harness.api.task import Task
from harness.errors import Interrupted
from harness.execution.annotator import describe
from harness.execution.context import RunContext
from harness.execution.task_inputs import objects_of
from harness.execution.worker import Worker
from harness.plan.graph import Graph
from harness.registry.catalogue import Catalogue
from harness.results.rows import read_rows
from harness.runs.key_sentences import sentence
from harness.runs.stored_timings import timings_of
from harness.telemetry.events import EpochEnded, Event, TaskEnded, TrainingStarted
from harness_basin.distillation import Distillation, DistillationOptions
from harness_basin.populations.couplings.mixture import Mixture
from harness_basin.populations.couplings.mutual_distillation import MutualDistillation
from harness_basin.populations.couplings.pull import Pull
from harness_basin.populations.couplings.repulsion import Repulsion
from harness_basin.populations.couplings.shuffle import Shuffle

GraphOf = Callable[..., Graph]
STEPS = 6  # steps per epoch: 96 images in batches of 16
NETWORK = {"perceptron": {"batchnorm": True, "dropout": 0.2}}
COUPLINGS: dict[str, Coupling] = {
    "pull": Pull(Pull.Options(alpha=0.5, every=4)),
    "shuffle": Shuffle(Shuffle.Options(p=0.1)),
    "mixture": Mixture(),
    "repulsion": Repulsion(),
    "mutual": MutualDistillation(),
    "rare": Pull(Pull.Options(every=1000)),
}


class Tied(EnsembleBuilder):
    """Members that a coupling ties, at some epochs, and forks of them."""

    name = "tied"

    class Options(harness.Options):
        """Options."""

        by: str = "pull"
        epochs: tuple[int, ...] = (4,)
        trunk: int = 0
        fork: bool = False
        beta: float = 1.0

    def build(self, cell: Cell) -> Sequence[Weights]:
        coupling = COUPLINGS[self.options.by]
        order = 0 if coupling.mixes or coupling.shares_batch else None
        taught: dict[str, Any] = {}
        if self.options.beta < 1:
            objective = Distillation(DistillationOptions(beta=self.options.beta))
            taught = {"objective": objective, "teacher": cell.trajectory(member=7).at(1)}
        members = [cell.trajectory(member=j).at(0).fork(order=order, **taught) for j in range(cell.size)]
        if self.options.trunk:
            trunk = cell.trajectory(member=0).at(self.options.trunk)
            members = [trunk.fork(order=j) for j in range(cell.size)]
        joint = cell.couple(members, coupling)
        handles = [handle for epoch in self.options.epochs for handle in joint.at(epoch)]
        if self.options.fork:
            return [handle.fork(order=5).at(cell.epochs) for handle in handles]
        return handles


CATALOGUE = toys.catalogue(("ensemble_builder", Tied))


def tied(graph_of: GraphOf, *more: Any, **options: Any) -> Graph:
    """Plan a benchmark of tied members, and of more methods."""
    methods = [{"tied": options}, *more]
    return graph_of(CATALOGUE, members=2, methods=methods, architectures=[NETWORK], metrics=["ensemble_accuracy"])


def joint_tasks(graph: Graph) -> list[Task]:
    """Return the joint trainings of a graph."""
    found = []
    for task in graph.tasks.values():
        if isinstance(task.spec, TrainSpec) and task.spec.coupled is not None:
            found.append(task)
    return found


def stored(lab: Lab, task: Task) -> dict[str, torch.Tensor]:
    """Return all tensors that a task stored."""
    found = {}
    for part in lab.store.meta(task.key)["files"]:
        for name, tensor in lab.store.tensors(task.key, part).items():
            found[f"{part}/{name}"] = tensor
    return found


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Return whether two sets of tensors are equal to the bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def fresh(lab: Lab, name: str) -> Lab:
    """Return another lab, with a store of its own."""
    folder = lab.folder / name
    folder.mkdir()
    return Lab(folder)


@pytest.mark.parametrize("by", ["pull", "shuffle", "mixture", "repulsion", "mutual"])
def test_training_that_is_killed(graph_of: GraphOf, lab: Lab, by: str) -> None:
    """Continued within an epoch, or from a stored checkpoint, it stores what an uninterrupted one does, to the bit."""
    graph = tied(graph_of, by=by)
    [task] = joint_tasks(graph)
    whole, cut = fresh(lab, "whole"), fresh(lab, "cut")
    whole.run(graph, CATALOGUE)
    with pytest.raises(Interrupted):
        lab.run(graph, CATALOGUE, stopping=stop_after(2 * STEPS))
    spec = task.spec
    assert isinstance(spec, TrainSpec)
    [step] = lab.store.training_states.steps(spec.trajectory_key)
    assert step % STEPS
    lab.events.clear()
    lab.run(graph, CATALOGUE)
    [started] = [e for e in lab.events if isinstance(e, TrainingStarted)]
    assert started.epoch == pytest.approx(step / STEPS)
    assert equal(stored(lab, task), stored(whole, task))
    assert list(lab.store.training_states.steps(spec.trajectory_key)) == []
    cut.run(tied(graph_of, by=by, epochs=[2]), CATALOGUE)
    cut.events.clear()
    cut.run(graph, CATALOGUE)
    [started] = [e for e in cut.events if isinstance(e, TrainingStarted)]
    assert started.epoch == 2
    assert equal(stored(cut, task), stored(whole, task))
    losses = []
    for one in (whole, cut, lab):
        losses.append([(record["epoch"], record["loss"]) for record in one.store.meta(task.key)["history"]])
    assert losses[0] == losses[1] == losses[2]


def test_task(graph_of: GraphOf, lab: Lab) -> None:
    """One task trains all members, costs M epochs per epoch, and is described as what it is."""
    graph = tied(graph_of, "deep")
    [task] = joint_tasks(graph)
    assert task.cost == 2 * 4
    assert describe(task) == "perceptron on blobs, seed 0 2 members coupled by pull, cross-entropy"
    words = sentence("train", task.spec.to_json())
    assert words == "training of perceptron on blobs, 2 members coupled by pull, cross-entropy, up to epoch 4"
    lab.run(graph, CATALOGUE)
    ended = next(e for e in lab.events if isinstance(e, TaskEnded) and e.task == task.key)
    assert (ended.seed, ended.member, ended.methods, ended.cost) == (0, None, ("tied",), 8.0)
    epochs = [e.epoch for e in lab.events if isinstance(e, EpochEnded) and e.task == task.key]
    assert epochs == [1, 2, 3, 4]
    meta = lab.store.meta(task.key)
    assert [record["epoch"] for record in meta["history"]] == [1, 2, 3, 4]
    assert meta["stepping"][0]["siblings"] == 2
    [timing] = timings_of(meta)
    assert timing.siblings == 1
    assert sorted(objects_of(task.spec)) == sorted(task.parents)


@pytest.mark.parametrize(("trunk", "method"), [(0, "deep"), (2, {"constrained": {"fork_epoch": 2}})])
def test_members_that_are_tied_too_late(graph_of: GraphOf, lab: Lab, trunk: int, method: Any) -> None:
    """They are those of the method without a coupling, to the bit, with their optimizer memory; from a fork on, too."""
    graph = tied(graph_of, method, by="rare", trunk=trunk)
    lab.run(graph, CATALOGUE)
    joint, plain = (cell.members for cell in graph.cells)
    assert {member.key for member in joint}.isdisjoint(member.key for member in plain)
    for index, (one, other) in enumerate(zip(joint, plain, strict=True)):
        for own, part in ((f"weights-{index}", "weights"), (f"optimizer-{index}-momentum", "optimizer-momentum")):
            assert equal(lab.store.tensors(one.location.object, own), lab.store.tensors(other.location.object, part))


def test_fork_of_a_member(graph_of: GraphOf, lab: Lab) -> None:
    """It starts with the member's weights and optimizer memory, and stores other weights than the member."""
    graph = tied(graph_of, epochs=[2], fork=True)
    lab.run(graph, CATALOGUE)
    assert set(read_rows(lab.out)["status"]) == {"done"}
    [task] = joint_tasks(graph)
    forks = graph.cells[0].members
    states = [lab.store.tensors(fork.location.object, "weights") for fork in forks]
    assert not equal(*states)
    assert lab.store.meta(forks[1].location.object)["optimizer_steps"] == 4 * STEPS
    assert "optimizer-1-momentum" in lab.store.meta(task.key)["files"]


def test_statistics_of_vertices(graph_of: GraphOf, lab: Lab) -> None:
    """The running statistics of a vertex are those of the training images at its own weights."""
    graph = tied(graph_of, by="mixture")
    lab.run(graph, CATALOGUE)
    train, _ = toys.Blobs().load(None)  # type: ignore[arg-type]
    images = (train.images.float() / 255 - 0.5) / 0.25
    [task] = joint_tasks(graph)
    for member in range(2):
        state = lab.store.tensors(task.key, f"weights-{member}")
        linear = nn.Linear(16, 12)
        linear.load_state_dict({"weight": state["1.weight"], "bias": state["1.bias"]})
        features = linear(images.flatten(1)).detach()
        np.testing.assert_allclose(state["2.running_mean"], features.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state["2.running_var"], features.var(0), rtol=2e-2)


@pytest.mark.parametrize("by", ["rare", "mixture"])
def test_members_with_a_teacher(graph_of: GraphOf, lab: Lab, by: str) -> None:
    """The teacher is trained first, and each member learns from it: the weights are others than without one."""
    plain, taught = tied(graph_of, by=by), tied(graph_of, by=by, beta=0.5)
    lab.run(plain, CATALOGUE)
    lab.run(taught, CATALOGUE)
    assert set(read_rows(lab.out)["status"]) == {"done"}
    [task] = joint_tasks(taught)
    assert sorted(objects_of(task.spec)) == sorted(task.parents)
    assert task.cost == pytest.approx((1 if by == "mixture" else 2) * 4 * Distillation.epoch_cost)
    found, others = stored(lab, task), stored(lab, joint_tasks(plain)[0])
    assert not torch.equal(found["weights-1/1.weight"], others["weights-1/1.weight"])


def test_states_that_are_saved_on_the_way(graph_of: GraphOf, lab: Lab) -> None:
    """A training that is killed without warning continues from the state that was saved after an epoch."""
    graph = tied(graph_of)
    [task] = joint_tasks(graph)
    whole = fresh(lab, "whole")
    whole.run(graph, CATALOGUE)

    def kill(event: Event) -> None:
        lab.events.append(event)
        if isinstance(event, EpochEnded) and event.epoch == 3 and event.task == task.key:
            raise KeyboardInterrupt

    context = RunContext(CATALOGUE, lab.store.root, lab.folder, "cpu", kill, lambda: False, save_every=0.0)
    worker = Worker(context)
    for parent in graph.tasks.values():
        if parent.key in task.parents:
            worker.attempt(parent)
    with pytest.raises(KeyboardInterrupt):
        worker.attempt(task)
    assert isinstance(task.spec, TrainSpec)
    assert lab.store.training_states.steps(task.spec.trajectory_key) == [2 * STEPS]
    lab.run(graph, CATALOGUE)
    assert equal(stored(lab, task), stored(whole, task))


class Unregistered(Coupling):
    """A coupling that no plugin registers."""

    name = "unregistered"


class Untold(Tied):
    """Members tied by a coupling that no worker could find."""

    name = "untold"

    def build(self, cell: Cell) -> Sequence[Weights]:
        return cell.couple([cell.trajectory(member=j) for j in range(cell.size)], Unregistered()).at(4)


def test_coupling_that_is_not_registered(graph_of: GraphOf) -> None:
    """Its cell fails at planning, with the hook that would register it."""
    graph = graph_of(toys.catalogue(("ensemble_builder", Untold)), methods=["untold"])
    where = "method 'untold' on blobs × perceptron"
    known = "unknown coupling 'unregistered'; known: mutual_distillation, pull, random_mixture, repulsion, shuffle"
    assert graph.cells[0].problem == f"{where}: {known}; register Unregistered with register_couplings"


class Broken(Coupling):
    """A coupling whose step fails."""

    name = "pull"
    Options = Pull.Options

    def after_step(self, members: Any, step: Any) -> None:
        raise KeyError("size")


class BadMixture(Mixture):
    """Mixtures that are none."""

    def mixture(self, members: int, step: Any) -> list[float]:
        return [0.5, 0.6]


class BadLoss(Repulsion):
    """A joint loss with a number per member."""

    def joint_loss(self, losses: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return losses


class ConstantLoss(Repulsion):
    """A joint loss that nothing follows from."""

    def joint_loss(self, losses: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return losses.detach().sum()


class NoLoss(Repulsion):
    """A coupling that forgets its joint loss."""

    joint_loss = Coupling.joint_loss


REPULSION_OF_TOYS = "coupling 'repulsion' of plugin 'toys' of distribution 'tests 0': joint_loss "


@pytest.mark.parametrize(
    ("cls", "by", "message"),
    [
        (BadLoss, "repulsion", f"{REPULSION_OF_TOYS}gave a tensor (2,); a scalar tensor is expected"),
        (
            ConstantLoss,
            "repulsion",
            f"{REPULSION_OF_TOYS}gave a loss without a gradient; a function of the losses or logits is expected",
        ),
        (
            NoLoss,
            "repulsion",
            f"{REPULSION_OF_TOYS}raised NotImplementedError: repulsion shares a batch, but does not define `joint_loss`",
        ),
        (Broken, "pull", "coupling 'pull' of plugin 'toys' of distribution 'tests 0': after_step raised KeyError: 'size'"),
        (
            BadMixture,
            "mixture",
            "coupling 'random_mixture' of plugin 'toys' of distribution 'tests 0': mixture gave [0.5, 0.6]; 2 numbers of at "
            "least 0 with sum 1 are expected",
        ),
    ],
)
def test_coupling_that_fails(graph_of: GraphOf, lab: Lab, cls: type[Coupling], by: str, message: str) -> None:
    """The task fails with a message that names the coupling and its method."""
    [task] = joint_tasks(tied(graph_of, by=by))
    registrations = [r for r in CATALOGUE if (r.kind, r.name) != ("coupling", cls.name)]
    catalogue = Catalogue([*registrations, toys.Registration("coupling", cls.name, cls, toys.PLUGIN)])
    context = RunContext(catalogue, lab.store.root, lab.folder, "cpu", lab.events.append, lambda: False)
    worker = Worker(context)
    for parent in tied(graph_of, by=by).tasks.values():
        if parent.key in task.parents:
            assert worker.attempt(parent).status == "done"
    outcome = worker.attempt(task)
    assert outcome.status == "failed"
    assert outcome.message.startswith(message)


def test_recipe() -> None:
    """The tests above count on it."""
    assert RECIPE["epochs"] == 4
    assert 96 // RECIPE["batch_size"] == STEPS
