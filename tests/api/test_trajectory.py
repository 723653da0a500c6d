"""Handles of trajectories and their keys: which calls give equal handles, and what a key depends on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import harness
import toys
from harness import Cell, Recipe, Setting, schedules
from harness_basin.cross_entropy import CrossEntropy
from harness_basin.distillation import Distillation, DistillationOptions


def cell(seed: int = 0, recipe: Recipe | None = None, **blobs: Any) -> Cell:
    """Return a cell of blobs and a perceptron, with 3 members and 10 epochs unless the recipe says otherwise."""
    setting = Setting(toys.Blobs(toys.Blobs.Options(**blobs)), toys.Perceptron(), recipe or Recipe(epochs=10))
    return Cell(setting, CrossEntropy(), seed, 3)


def test_equal_calls_give_equal_handles() -> None:
    """Cells of equal values share their trajectories; members of a cell do not."""
    assert cell().trajectory(1).at(10) == cell().trajectory(1).at(10)
    assert cell().trajectory(1).at(10) != cell().trajectory(2).at(10)


def test_fork_that_changes_nothing() -> None:
    """Such a fork is the trajectory that it forks from."""
    reference = cell().trajectory(0)
    assert reference.at(3).fork(order=0) == reference
    assert reference.at(3).fork() is reference
    assert reference.at(3).fork(order=1) != reference


def test_fork_at_its_fork_epoch() -> None:
    """Its checkpoint there is the checkpoint that it starts from."""
    trunk = cell().trajectory(0).at(3)
    assert trunk.fork(order=1).at(3) == trunk


def test_distillation_without_weight_on_the_teacher() -> None:
    """With β = 1 the loss has no teacher (paper §4), so the fork is one without distillation."""
    trunk = cell().trajectory(0).at(3)
    teacher = cell().trajectory(1).at(10)
    plain = trunk.fork(order=1)
    assert trunk.fork(order=1, objective=Distillation(DistillationOptions(beta=1.0)), teacher=teacher) == plain
    assert trunk.fork(order=1, objective=Distillation(DistillationOptions(beta=0.9)), teacher=teacher) != plain


@pytest.mark.parametrize("change", [{"seed": 1}, {"recipe": Recipe(epochs=10, weight_decay=0.0)}, {"size": 32}], ids=str)
def test_change_that_changes_the_weights(change: dict[str, Any]) -> None:
    """A change of the seed, the recipe or an option of the data set gives another key."""
    assert cell(**change).trajectory(0).key != cell().trajectory(0).key


class OtherBlobs(toys.Blobs):
    """Other data under the same name."""

    fingerprint = "blobs-2"


class OtherPerceptron(toys.Perceptron):
    """Another version under the same name."""

    version = 2


class SameBlobs(toys.Blobs):
    """The same data in another class."""


@pytest.mark.parametrize(
    ("dataset", "architecture", "equal"),
    [
        (SameBlobs, toys.Perceptron, True),
        (OtherBlobs, toys.Perceptron, False),
        (toys.Blobs, OtherPerceptron, False),
    ],
    ids=["same data", "other fingerprint", "other version"],
)
def test_fingerprint_and_plugin_version(
    dataset: type[harness.Dataset], architecture: type[harness.Architecture], equal: bool
) -> None:
    """The key depends on the fingerprint of the data and on the plugin's version, but not on the Python class."""
    changed = Cell(Setting(dataset(), architecture(), Recipe(epochs=10)), CrossEntropy(), 0, 3)
    assert (changed.trajectory(0).key == cell().trajectory(0).key) == equal


def test_forks_with_different_changes() -> None:
    """A constant rate, a restarted schedule, a fresh optimizer and another order give different trajectories."""
    trunk = cell().trajectory(0).at(3)
    forks = [
        trunk.fork(schedule=schedules.Constant(rate=0.01)),
        trunk.fork(schedule=schedules.WarmupCosine.of(cell().recipe, 7)),
        trunk.fork(schedule=schedules.CyclicCosine(peak=0.1, cycle=2)),
        trunk.fork(recipe=cell().recipe.replace(weight_decay=0.5)),
        trunk.fork(fresh_optimizer=True),
        trunk.fork(order=1),
    ]
    assert len({fork.key for fork in forks} | {trunk.trajectory.key}) == 7


def test_epoch_that_is_not_on_the_trajectory() -> None:
    """An epoch before the fork or after the recipe's last one is refused; a constant rate has no last epoch."""
    reference = cell().trajectory(0)
    with pytest.raises(
        ValueError, match=r"epoch 11 is not on this trajectory; 0 to 10, where its schedule ends; .* a `schedule`$"
    ):
        reference.at(11)
    with pytest.raises(ValueError, match=r"epoch 2 is not on this trajectory; 3 to 10$"):
        reference.at(3).fork(order=1).at(2)
    assert reference.at(8).fork(schedule=schedules.Constant(rate=0.01)).at(1000).epoch == 1000


def test_teacher_that_does_not_fit() -> None:
    """A teacher of other classes is refused, and so is a missing or a superfluous one."""

    class Other(toys.Blobs):
        num_classes = 5

    wrong = Setting(Other(), toys.Perceptron(), Recipe(epochs=10))
    teacher = Cell(wrong, CrossEntropy(), 0, 3).trajectory(0).at(10)
    with pytest.raises(ValueError, match=r"the teacher sees images \(1, 4, 4\) of 5 classes, its student \(1, 4, 4\) of 4"):
        cell().trajectory(0, Distillation(), teacher)
    with pytest.raises(ValueError, match="objective 'distillation' needs a teacher"):
        cell().trajectory(0, Distillation())
    with pytest.raises(ValueError, match="objective 'cross_entropy' takes no teacher"):
        cell().trajectory(0, CrossEntropy(), cell().trajectory(0).at(10))


def test_derived_outputs_share_one_task() -> None:
    """All outputs of a derivation are parts of one object; each has its own key."""

    class Twice(harness.Derivation):
        name = "twice"
        outputs = 2

        def derive(self, parents: Any, context: Any) -> Any:
            raise AssertionError("handles compute nothing")

    first, second = cell().derive(Twice(), [cell().trajectory(0).at(10)])
    assert first.task_key == second.task_key
    assert first.key != second.key
    assert (first.location.part, second.location.part) == ("weights-0", "weights-1")
    other, _ = cell().derive(Twice(), [cell().trajectory(1).at(10)])
    assert other.task_key != first.task_key


def test_numpy_numbers() -> None:
    """NumPy numbers give the handles and keys of equal Python numbers."""
    numpy = Cell(cell().setting, CrossEntropy(), np.int64(0), np.int64(3))  # type: ignore[arg-type]
    run = cell().trajectory(0)
    same = numpy.trajectory(member=np.int64(0))  # type: ignore[arg-type]
    assert same.at(np.int64(3)) == run.at(3)  # type: ignore[arg-type]
    given = schedules.Constant(rate=np.float64(0.1))
    plain_fork = run.at(3).fork(order=1, schedule=schedules.Constant(rate=0.1))
    assert same.at(np.array(3)).fork(order=np.int64(1), schedule=given) == plain_fork  # type: ignore[arg-type]
    assert run.at(3).fork(fresh_optimizer=np.bool_(False)) is run  # type: ignore[arg-type]
    for one, other in ((1, 1.0), (-0.0, 0.0)):
        constant, same_constant = schedules.Constant(rate=one), schedules.Constant(rate=other)
        assert run.at(3).fork(schedule=constant) == run.at(3).fork(schedule=same_constant)
    assert (type(numpy.seed), type(numpy.size), numpy.size) == (int, int, 3)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda run: run.at(1.5), "epoch must be an integer, not 1.5"),
        (lambda run: run.at(3.0), "epoch must be an integer, not 3.0"),
        (lambda run: run.at(np.float64(3)), "epoch must be an integer, not 3.0"),
        (lambda run: run.at(True), "epoch must be an integer, not True"),
        (lambda run: run.at(np.bool_(True)), "epoch must be an integer, not True"),
        (lambda run: run.at("3"), "epoch must be an integer, not '3'"),
        (lambda run: run.at(None), "epoch must be an integer, not None"),
        (lambda run: run.at(3).fork(order=1.0), "order must be an integer, not 1.0"),
        (
            lambda run: run.at(3).fork(schedule=0.1),
            "schedule is 0.1; one of harness.schedules: Constant, WarmupCosine, Linear, CyclicCosine, Triangular",
        ),
        (
            lambda run: run.at(3).fork(recipe={"epochs": 3}),
            "recipe is {'epochs': 3}; a harness.Recipe, such as cell.recipe.replace(weight_decay=0.0)",
        ),
        (lambda run: run.at(3).fork(fresh_optimizer="no"), "fresh_optimizer must be true or false, not 'no'"),
        (lambda run: cell().trajectory("0"), "member must be an integer, not '0'"),
        (lambda run: cell(seed=0.5), "seed must be an integer, not 0.5"),  # type: ignore[arg-type]
    ],
)
def test_argument_of_another_type(make: Callable[[Any], Any], error: str) -> None:
    """The error names the argument, the type that is allowed, and the value."""
    with pytest.raises(ValueError) as caught:
        make(cell().trajectory(0))
    assert str(caught.value) == error


def test_schedule_may_run_beyond_the_last_epoch() -> None:
    """A fork follows its own schedule to its end: snapshot ensembles are one fork per cycle, or one cyclic trajectory."""
    c = cell()
    cycle = schedules.WarmupCosine(peak=0.1, epochs=8)
    fork = c.trajectory(0).at(10).fork(schedule=cycle)
    assert (fork.schedule_start, fork.last_epoch) == (10, 18)
    assert fork.at(18).fork(schedule=cycle).last_epoch == 26
    with pytest.raises(ValueError, match="epoch 19 is not on this trajectory; 10 to 18"):
        fork.at(19)
    cyclic = c.trajectory(0, schedule=schedules.CyclicCosine(peak=0.1, cycle=4))
    assert cyclic.at(400).epoch == 400
    assert cyclic != c.trajectory(0)


def test_constant_schedule_has_no_beginning() -> None:
    """A constant that continues is the same training; another schedule begins where it is given."""
    held = cell().trajectory(0).at(8).fork(schedule=schedules.Constant(rate=0.01))
    assert held.at(12).fork(schedule=schedules.Constant(rate=0.01)) is held
    cycle = schedules.CyclicCosine(peak=0.1, cycle=2)
    cyclic = cell().trajectory(0).at(4).fork(schedule=cycle)
    assert cyclic.at(7).fork(schedule=cycle) != cyclic


def test_member_with_a_recipe_of_its_own() -> None:
    """Weight decay, learning rate, batch size and T may differ between members; what they see may not."""
    c = cell()
    own = c.trajectory(1, recipe=c.recipe.replace(weight_decay=5e-4, epochs=12))
    assert own != c.trajectory(1)
    assert own.at(12).setting.recipe.weight_decay == 5e-4
    assert c.trajectory(1, recipe=c.recipe.replace()) == c.trajectory(1)
    with pytest.raises(ValueError, match="normalization differs from the cell's"):
        c.trajectory(1, recipe=c.recipe.replace(normalization=((0.1,), (0.2,))))
    with pytest.raises(ValueError, match="weight_decy"):
        c.recipe.replace(weight_decy=1.0)


def test_derived_weights_can_be_trained_on() -> None:
    """A fork of an average counts on from its parents' last epoch, without optimizer state, with the first one's order."""

    class Mean(harness.Derivation):
        name, derive = "mean", None

    Mean.__abstractmethods__ = frozenset()
    c = cell()
    run = c.trajectory(1)
    (mean,) = c.derive(Mean(), [run.at(4), run.at(6)])
    assert (mean.epoch, mean.origin) == (6, run)
    fork = mean.fork(order=2)
    assert (fork.start_epoch, fork.order, fork.fresh_optimizer) == (6, ("order", 0, 2), True)
    assert fork.at(6) == mean
    assert mean.fork() != run
    assert fork.at(10).fork(order=3).at(10) == fork.at(10)


def test_schedule_of_the_recipe_spelled_out() -> None:
    """It is the recipe's own: one training, not two with equal weights."""
    c = cell()
    spelled = schedules.WarmupCosine.of(c.recipe, c.epochs)
    assert c.trajectory(0, schedule=spelled) == c.trajectory(0)
    assert c.trajectory(0, schedule=schedules.WarmupCosine.of(c.recipe, c.epochs + 1)) != c.trajectory(0)
    assert c.trajectory(0).at(3).fork(schedule=spelled) != c.trajectory(0)
