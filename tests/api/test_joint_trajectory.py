"""Handles of trainings that a coupling ties: which are equal, what their keys depend on, and which are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import toys
from harness import Cell, Coupling, JointCheckpoint, JointTrajectory, Recipe, Setting, Trajectory, Weights, schedules
from harness.plan.cost import epochs_alone
from harness_basin.cross_entropy import CrossEntropy
from harness_basin.distillation import Distillation, DistillationOptions
from harness_basin.populations.couplings.mixture import Mixture
from harness_basin.populations.couplings.pull import Pull
from harness_basin.populations.couplings.repulsion import Repulsion

PULL = Pull()


def cell(seed: int = 0, width: int = 12, size: int = 96, **recipe: Any) -> Cell:
    """Return a cell of blobs and a perceptron with 3 members."""
    architecture = toys.Perceptron(toys.Perceptron.Options(width=width))
    setting = Setting(toys.Blobs(toys.Blobs.Options(size=size)), architecture, Recipe(**{"epochs": 10, **recipe}))
    return Cell(setting, CrossEntropy(), seed, 3)


def members(of: Cell, count: int = 3) -> list[Trajectory]:
    """Return trainings from initialization."""
    return [of.trajectory(member=index) for index in range(count)]


def joint(seed: int = 0, coupling: Coupling = PULL, name: str = "") -> JointTrajectory:
    """Return a joint trajectory of three trainings."""
    own = cell(seed)
    return own.couple(members(own), coupling, name)


def test_equal_calls_give_equal_handles() -> None:
    """Equal members, couplings and names are one training, which has a handle per member."""
    handles = joint().at(10)
    assert handles == joint().at(10)
    assert len({handle.key for handle in handles}) == 3
    assert len({handle.location.object for handle in handles}) == 1


@pytest.mark.parametrize(
    "other",
    [
        joint(1),
        joint(coupling=Pull(Pull.Options(alpha=0.5))),
        joint(name="again"),
        cell().couple(members(cell(), 2), PULL),
        cell().couple(members(cell())[::-1], PULL),
    ],
    ids=["seed", "option", "name", "members", "order"],
)
def test_change_that_changes_the_weights(other: JointTrajectory) -> None:
    """It gives other keys."""
    assert not {handle.key for handle in joint().at(10)} & {handle.key for handle in other.at(10)}


def test_key() -> None:
    """It stays what it is, so that stored results stay valid."""
    assert [handle.key[:8] for handle in joint().at(10)] == KEYS


KEYS = ["9bc8c858", "146d5677", "ea6b790a"]


@pytest.mark.parametrize("coupling", [Pull(Pull.Options(alpha=1)), PULL, Mixture()], ids=["α = 1", "one member", "one vertex"])
def test_coupling_that_changes_nothing(coupling: Coupling) -> None:
    """The handles are those of the members, which are shared with other methods."""
    own = cell()
    tied = members(own, 3 if coupling.simplified(3) is None else 1)
    assert own.couple(tied, coupling).at(10) == tuple(member.at(10) for member in tied)


def test_start_of_a_joint_trajectory() -> None:
    """It is the latest start of a member: forks of a trunk are tied from there on, of which the first is the trunk's own."""
    trunk = cell().trajectory(0).at(3)
    forks = [trunk.fork(order=index) for index in range(3)]
    assert [fork.start_epoch for fork in forks] == [0, 3, 3]
    assert cell().couple(forks, PULL).at(3) == (trunk, trunk, trunk)
    assert isinstance(cell().couple(forks, PULL).at(4)[0], JointCheckpoint)
    with pytest.raises(ValueError, match="epoch 2 is before the coupling, which begins at epoch 3"):
        cell().couple(forks, PULL).at(2)
    assert joint().at(0) == tuple(member.at(0) for member in members(cell()))
    with pytest.raises(ValueError, match=r"epoch 11 is not on this trajectory; 0 to 10"):
        joint().at(11)


def test_fork_of_a_joint_checkpoint() -> None:
    """It continues one member without the coupling, from the member's epoch and with its order."""
    second = joint().at(4)[1]
    assert isinstance(second, JointCheckpoint)
    fork = second.fork()
    assert (fork.start, fork.start_epoch, fork.order) == (second, 4, ("order", 0, 1))
    assert fork.at(10).key != cell().trajectory(1).at(10).key


def test_cost() -> None:
    """A coupled epoch costs one per member, one at mixtures costs one; shared starts and teachers count once."""
    own = cell()
    trunk = own.trajectory(0).at(4)
    forks = [trunk.fork(order=index) for index in range(3)]
    one_order = [trajectory.at(0).fork(order=0) for trajectory in members(own)]
    assert epochs_alone(joint().at(10)) == 30
    assert epochs_alone(joint().at(10)[:1]) == 30
    assert epochs_alone([*joint().at(10), *joint().at(4)]) == 30
    assert epochs_alone(own.couple(forks, PULL).at(10)) == 4 + 3 * 6
    assert epochs_alone(own.couple(one_order, Mixture()).at(10)) == 10
    teacher = own.trajectory(7).at(10)
    taught = [own.trajectory(j, Distillation(DistillationOptions(beta=0.5)), teacher) for j in range(3)]
    assert epochs_alone(own.couple(taught, PULL).at(10)) == pytest.approx(10 + 30 * Distillation.epoch_cost)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: cell(width=13).trajectory(1), r"member 1 is perceptron \{'width': 13, .*\} on blobs, member 0 is "),
        (
            lambda: cell(learning_rate=0.3).trajectory(1),
            "member 1 has another learning_rate than member 0; members of a coupling may differ in augmentation, clip_norm,"
            " label_smoothing, weight_decay",
        ),
        (
            lambda: cell().trajectory(1, schedule=schedules.Constant(rate=0.1)),
            "member 1 has another schedule than member 0; a coupling needs one schedule",
        ),
        (
            lambda: cell().trajectory(1, Distillation(DistillationOptions(beta=0.5)), cell().trajectory(2).at(10)),
            "member 1 minimizes distillation, member 0 cross_entropy; a coupling needs one kind of objective",
        ),
        (lambda: cell().trajectory(1).at(3), "member 1 is Checkpoint.*; a coupling ties trainings, such as"),
    ],
    ids=["shape", "recipe", "schedule", "objective", "checkpoint"],
)
def test_members_that_do_not_fit(other: Callable[[], Any], message: str) -> None:
    """They are refused before anything is trained, by the member's index."""
    with pytest.raises(ValueError, match=message):
        cell().couple([cell().trajectory(0), other()], PULL)


def test_members_with_recipes_of_their_own() -> None:
    """Each has its own setting; they are another training than those with one recipe."""
    own = cell()
    smooth = [own.trajectory(j, recipe=own.recipe.replace(label_smoothing=0.1 * j)) for j in range(2)]
    checkpoints = own.couple(smooth, PULL).at(10)
    assert [handle.setting.recipe.label_smoothing for handle in checkpoints] == [0.0, 0.1]
    assert checkpoints[0].key != own.couple(members(own)[:2], PULL).at(10)[0].key


def test_mixture_of_members_with_other_orders() -> None:
    """One batch trains all vertices, so their orders must agree."""
    with pytest.raises(
        ValueError, match=r"member 1 has another recipe, order, .* coupling 'random_mixture' trains all members on"
    ):
        cell().couple(members(cell()), Mixture())


def test_mixture_of_members_with_other_recipes() -> None:
    """One loss trains all vertices, so their recipes must agree."""
    own = cell()
    trajectory = own.trajectory(0)
    other = trajectory.at(0).fork(recipe=own.recipe.replace(weight_decay=0.1))
    with pytest.raises(ValueError, match=r"member 1 has another recipe, order, objective or teacher than member 0; coupling "):
        own.couple([trajectory, other], Mixture())


def test_coupling_of_nothing() -> None:
    """No training cannot be tied."""
    with pytest.raises(ValueError, match="a coupling needs at least one training; none is given"):
        cell().couple([], PULL)


def test_joint_checkpoint_as_a_teacher_and_a_start() -> None:
    """It can be used wherever handles of weights can."""
    handle: Weights = joint().at(10)[2]
    student = cell().trajectory(0, Distillation(DistillationOptions(beta=0.5)), handle)
    assert student.teacher is handle
    assert handle.setting == cell().setting


class Both(Repulsion):
    """A coupling of both kinds."""

    mixes = True


def test_coupling_of_one_batch() -> None:
    """Members with orders of their own are refused, and so is a coupling that would also mix."""
    own = cell()
    with pytest.raises(
        ValueError, match="member 1 has another recipe, order, objective or teacher than member 0; coupling 'repulsion'"
    ):
        own.couple(members(own), Repulsion())
    one_order = [member.at(0).fork(order=0) for member in members(own)]
    assert epochs_alone(own.couple(one_order, Repulsion()).at(10)) == 30
    with pytest.raises(ValueError, match="coupling 'repulsion' has both mixes and shares_batch; one of them at most"):
        own.couple(one_order, Both())
