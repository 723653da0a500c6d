"""Batches larger than the training set are refused before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import toys
from conftest import RECIPE, toy_file
from harness import Cell, EnsembleBuilder, Weights
from harness.api.recipe import Recipe
from harness.benchmark import load_benchmark
from harness.errors import BenchmarkError
from harness.plan.graph import Graph
from harness.plan.planner import plan
from harness_basin.averages.averaging import UniformSoup

ADVICE = "the number of training images"


class Growing(toys.Blobs):
    """Blobs whose number is known once they are located."""

    name = "growing"
    found: int | None = None

    def located(self, root: Path) -> Growing:
        known = type(self)(self.options)
        known.found = 10
        return known

    @property
    def train_size(self) -> int:
        if self.found is None:
            raise RuntimeError("not located")
        return self.found


def problems(folder: Path, **changes: object) -> list[str]:
    """Return the problems of a benchmark of toys, without the path of its file."""
    path = toy_file(folder, **changes)
    with pytest.raises(BenchmarkError) as caught:
        load_benchmark(path, toys.catalogue())
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def test_batch_larger_than_the_training_set(tmp_path: Path) -> None:
    """The message names the value's place, the setup, and both numbers."""
    (problem,) = problems(tmp_path, recipe={**RECIPE, "batch_size": 97})
    place, _, message = problem.partition(" ")
    assert message == f"recipe on blobs × perceptron: batch_size is 97; at most 96, {ADVICE}"
    line, column, _ = place.split(":")
    assert (tmp_path / "toy.yaml").read_text().splitlines()[int(line) - 1][int(column) - 1 :] == "97"


def test_batch_as_large_as_the_training_set(graph_of: Callable[..., Graph]) -> None:
    """It is allowed: an epoch is one step."""
    assert graph_of(recipe={**RECIPE, "batch_size": 96}).cells[0].problem == ""


def test_batch_of_the_default_recipe(tmp_path: Path) -> None:
    """A default value is refused, too."""
    recipe = {key: value for key, value in RECIPE.items() if key != "batch_size"}
    (problem,) = problems(tmp_path, recipe=recipe)
    assert problem.endswith(f"recipe on blobs × perceptron: batch_size is 128; at most 96, {ADVICE}")


def test_batch_of_some_settings(tmp_path: Path) -> None:
    """Only the setup that is too small is named."""
    datasets = [{"blobs": {"label": "few", "size": 32}}, {"blobs": {"label": "many", "size": 64}}]
    (problem,) = problems(tmp_path, datasets=datasets, recipe={**RECIPE, "batch_size": 48})
    assert problem.endswith(f"recipe on few × perceptron: batch_size is 48; at most 32, {ADVICE}")


def test_size_that_is_known_once_located(tmp_path: Path) -> None:
    """The check of the file lets it pass; the plan of the located benchmark refuses the cells."""
    catalogue = toys.catalogue(("dataset", Growing))
    benchmark = load_benchmark(toy_file(tmp_path, datasets=["growing"], methods=["deep"]), catalogue)
    (cell,) = plan(benchmark.located(tmp_path)).cells
    assert cell.problem == f"method 'deep' on growing × perceptron: batch_size is 16; at most 10, {ADVICE}"


def test_batch_of_a_members_own_recipe(graph_of: Callable[..., Graph]) -> None:
    """A builder that enlarges one member's batch fails its cell before anything is trained, also below derived weights."""

    class Larger(EnsembleBuilder):
        name = "larger"

        def build(self, cell: Cell) -> Sequence[Weights]:
            large = cell.trajectory(member=1, recipe=cell.recipe.replace(batch_size=97)).at(cell.epochs)
            return cell.derive(UniformSoup(), [cell.trajectory(member=0).at(cell.epochs), large])

    (planned,) = graph_of(toys.catalogue(("ensemble_builder", Larger)), methods=["larger"]).cells
    assert planned.problem == f"method 'larger' on blobs × perceptron: batch_size is 97; at most 96, {ADVICE}"


def test_steps_of_a_recipe() -> None:
    """An epoch has the whole batches, and at least one step."""
    assert [Recipe(batch_size=20).steps_per_epoch(size) for size in (100, 119, 20, 5)] == [5, 5, 1, 1]
