"""Builders that ask for another method's members, and derivations that nobody registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch

import harness
import toys
from conftest import Lab
from harness.plan.graph import Graph
from harness.testing import check_ensemble_builder

GraphOf = Callable[..., Graph]


class Mean(harness.Derivation):
    """The average of weights."""

    name, version = "mean", 1

    def derive(
        self, parents: Sequence[harness.StateDict], context: harness.DerivationContext
    ) -> tuple[Sequence[harness.StateDict], Mapping[str, Any]]:
        mean = {}
        for name, tensor in parents[0].items():
            stacked = torch.stack([parent[name].double() for parent in parents])
            mean[name] = stacked.mean(0).to(tensor.dtype)
        return [mean], {}


class AverageOfSamples(harness.EnsembleBuilder):
    """One average of another method's members, trained on as M members of their own."""

    name, version = "average", 1

    class Options(harness.Options):
        """Options."""

        of: str = "swe"
        floor: float | None = None
        train_on: int = 0

    def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
        given = {} if self.options.floor is None else {"floor": self.options.floor}
        (mean,) = cell.derive(Mean(), cell.build(self.options.of, **given))
        if not self.options.train_on:
            return [mean]
        schedule = harness.schedules.Constant(rate=0.01)
        return [mean.fork(order=j, schedule=schedule).at(mean.epoch + self.options.train_on) for j in range(cell.size)]


CATALOGUE = toys.catalogue(("ensemble_builder", AverageOfSamples), ("derivation", Mean))


def test_average_of_samples_trains_nothing_new(graph_of: GraphOf, lab: Lab) -> None:
    """The members of SWE are those of the method itself: its trainings are shared, and the average is one derivation."""
    graph = graph_of(CATALOGUE, methods=["swe", "average"], members=2, metrics=["ensemble_accuracy"])
    swe, average = graph.cells
    assert average.epochs_new == 0
    assert average.epochs_alone == swe.epochs_alone
    lab.run(graph, CATALOGUE)
    expected = torch.stack([lab.store.tensors(m.location.object, m.location.part)["1.weight"] for m in swe.members]).mean(0)
    where = average.members[0].location
    torch.testing.assert_close(lab.store.tensors(where.object, where.part)["1.weight"], expected)


def test_average_is_trained_on(graph_of: GraphOf, lab: Lab) -> None:
    """Forks of derived weights train from there, at epochs beyond T, and end in other places for other orders."""
    graph = graph_of(
        CATALOGUE,
        methods=[{"average": {"train_on": 1}}],
        members=2,
        metrics=["ensemble_accuracy"],
        recipe=FOUR_EPOCHS,
    )
    (cell,) = graph.cells
    assert cell.problem == ""
    assert [member.epoch for member in cell.members] == [9, 9]
    assert not lab.run(graph, CATALOGUE).failures
    first, second = (lab.store.tensors(m.location.object, "weights")["1.weight"] for m in cell.members)
    where = cell.members[0].trajectory.start.location  # type: ignore[attr-defined]
    start = lab.store.tensors(where.object, where.part)["1.weight"]
    assert not torch.equal(first, second)
    assert 0 < float((first - start).norm()) < float(start.norm())


FOUR_EPOCHS = {"epochs": 4, "batch_size": 16, "augmentation": {"crop_padding": 0, "horizontal_flip": False}}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"of": "swee"}, "it asks for the members of another method: unknown method 'swee'; did you mean 'swe'?"),
        ({"floor": -1.0}, "it asks for the members of another method: swe.floor: -1.0 is out of range"),
        ({"of": "deep", "floor": 0.1}, "it asks for the members of another method: deep: unknown key 'floor'"),
        ({"floor": 0.5}, "its builder fails: ValueError: floor is 0.5; below the peak of the schedule"),
    ],
    ids=str,
)
def test_method_that_cannot_be_composed(graph_of: GraphOf, options: dict[str, Any], problem: str) -> None:
    """Cycles, unknown methods and wrong options fail the cell at planning, with the method and the place."""
    graph = graph_of(CATALOGUE, methods=[{"average": options}, "deep"])
    average, deep = graph.cells
    assert average.problem.startswith(f"method 'average' on blobs × perceptron: {problem}")
    assert deep.problem == ""


def test_methods_that_ask_for_each_other(graph_of: GraphOf) -> None:
    """A cycle is named from end to end; asking for the same method with other options is none."""

    class Ask(harness.EnsembleBuilder):
        name = "ask"

        class Options(harness.Options):
            other: str = "ask"

        def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
            return cell.build(self.options.other)

    class Back(Ask):
        name = "back"

    catalogue = toys.catalogue(("ensemble_builder", Ask), ("ensemble_builder", Back))
    itself, over, fine = graph_of(
        catalogue, methods=["ask", {"back": {"other": "ask"}}, {"back": {"other": "deep", "label": "x"}}]
    ).cells
    assert itself.problem.endswith(": methods ask for each other's members: ask → ask")
    assert over.problem.endswith(": methods ask for each other's members: back → ask → ask")
    assert fine.problem == ""


def test_unregistered_derivation_fails_at_planning(graph_of: GraphOf) -> None:
    """A worker could not find it: its cells fail before anything is trained, and the class is named."""
    catalogue = toys.catalogue(("ensemble_builder", AverageOfSamples))
    (cell,) = graph_of(catalogue, methods=["average"]).cells
    assert cell.problem.startswith("method 'average' on blobs × perceptron: unknown derivation 'mean'")
    assert cell.problem.endswith("; register Mean with register_derivations")


def test_other_class_under_a_registered_name_fails_at_planning(graph_of: GraphOf) -> None:
    """The worker would derive with the registered one."""

    class Impostor(Mean):
        pass

    catalogue = toys.catalogue(("ensemble_builder", AverageOfSamples), ("derivation", Impostor))
    (cell,) = graph_of(catalogue, methods=["average"]).cells
    assert "derivation 'mean' is Mean, but Impostor is registered under that name" in cell.problem


def test_contract_kit_knows_other_methods() -> None:
    """A composed builder keeps its contract with the installed methods."""
    setting = harness.Setting(toys.Blobs(), toys.Perceptron(), harness.Recipe(epochs=10))
    members = check_ensemble_builder(AverageOfSamples(), setting, CATALOGUE.create("objective", "cross_entropy"))
    assert len(members) == 1


def test_cell_without_methods_says_so() -> None:
    """A cell that was made by hand has no other methods."""
    setting = harness.Setting(toys.Blobs(), toys.Perceptron(), harness.Recipe(epochs=10))
    cell = harness.Cell(setting, CATALOGUE.create("objective", "cross_entropy"), 0, 2)
    with pytest.raises(ValueError, match=r"cell.build\('deep'\): this cell was made without other methods"):
        cell.build("deep")
