"""Recipes that can never work, alone or with a data set: refused by `check`, `plan` and `run` before anything is trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import SecretStr

import toys
from conftest import RECIPE, Lab, toy_file
from harness import Recipe
from harness.api.normalization import normalization_of
from harness.benchmark import load_benchmark
from harness.errors import BenchmarkError
from harness.plan.planner import plan
from harness.registry.catalogue import Catalogue
from harness.results.rows import read_rows


class Gray(toys.Blobs):
    """Blobs with a normalization of one's own."""

    name = "gray"
    given: Any = ((0.5,), (0.25,))

    @property
    def normalization(self) -> Any:
        return self.given


def gray(given: Any) -> type[Gray]:
    """Return a data set class with a normalization."""
    return type("Given", (Gray,), {"given": given})


def problems(path: Path, catalogue: Catalogue | None = None) -> list[str]:
    """Return what is wrong with a file, without the folder that it lies in."""
    with pytest.raises(BenchmarkError) as caught:
        load_benchmark(path, catalogue or toys.catalogue())
    return [line.removeprefix(f"{path.parent}/") for line in caught.value.problems]


DECAY = "a number of at least 0 and below 1"


@pytest.mark.parametrize(
    ("recipe", "fault"),
    [
        ({"betas": [0.9, 1.0]}, f"recipe.betas[1]: 1.0 is out of range; {DECAY}"),
        ({"betas": [1.0, 0.999]}, f"recipe.betas[0]: 1.0 is out of range; {DECAY}"),
        ({"betas": [-2, 0.9]}, f"recipe.betas[0]: -2 is out of range; {DECAY}"),
        ({"betas": [0.9, 3]}, f"recipe.betas[1]: 3 is out of range; {DECAY}"),
        ({"eps": 0}, "recipe.eps: 0 is out of range; a number of at least 1e-30 and at most 1"),
        ({"eps": 1e-60}, "recipe.eps: 1e-60 is out of range; a number of at least 1e-30 and at most 1"),
        (
            {"normalization": [[0.3], [0.0]]},
            "recipe.normalization[1][0]: 0.0 is out of range; a number of at least 0.001 and at most 1",
        ),
        (
            {"normalization": [[0.3], [-0.2]]},
            "recipe.normalization[1][0]: -0.2 is out of range; a number of at least 0.001 and at most 1",
        ),
        (
            {"normalization": [[123.7], [0.2]]},
            "recipe.normalization[0][0]: 123.7 is out of range; a number of at least 0 and at most 1",
        ),
        (
            {"normalization": [[0.5, 0.5, 0.5], [0.2, 0.2, 0.2]]},
            "recipe on blobs × perceptron: normalization has 3 means and 3 deviations; images of 'blobs' have 1 channel",
        ),
        (
            {"normalization": [[0.5], [0.2, 0.2]]},
            "recipe on blobs × perceptron: normalization has 1 mean and 2 deviations; images of 'blobs' have 1 channel",
        ),
        (
            {"augmentation": {"crop_padding": 4}},
            "recipe on blobs × perceptron: augmentation.crop_padding is 4; at most 3 for images of 4×4 pixels",
        ),
        (
            {"nesterov": True, "momentum": 0},
            "recipe on blobs × perceptron: nesterov is true and momentum is 0; Nesterov's form needs a momentum above 0",
        ),
    ],
    ids=str,
)
def test_recipe_that_can_never_work(tmp_path: Path, recipe: dict[str, Any], fault: str) -> None:
    """One line names the value and what is allowed."""
    [line] = problems(toy_file(tmp_path, recipe={**RECIPE, **recipe}))
    assert line.partition(": ")[2] == fault


@pytest.mark.parametrize(
    "recipe",
    [
        {"betas": [0, 0.5]},
        {"eps": 1e-15},
        {"normalization": [[0], [1]]},
        {"warmup": 0.99, "epochs": 2},
        {"learning_rate": 1e12},
        {"optimizer": "adam", "nesterov": True, "momentum": 0},
        {"augmentation": {"crop_padding": 3, "hue": 0.5, "saturation": 1.0}},
    ],
    ids=str,
)
def test_recipe_that_works(benchmark_of: Any, recipe: dict[str, Any]) -> None:
    """The ends of the ranges, and what an optimizer or an image has no use for, are accepted."""
    assert len(benchmark_of(recipe={**RECIPE, **recipe}).setups) == 1


def test_places_of_a_recipe_that_does_not_fit(tmp_path: Path) -> None:
    """A line stands where the value was given last, and at the recipe where it is a default."""
    recipe = "recipe: {epochs: 4, batch_size: 16, augmentation: {crop_padding: 0}}\n"
    content = (
        "seeds: [0]\ndatasets: [blobs]\narchitectures: [perceptron]\nmethods: [deep]\n"
        f"{recipe}settings:\n"
        "- recipe: {normalization: [[0.5, 0.5], [0.5, 0.5]]}\n"
        "- recipe: {augmentation: {crop_padding: 9}}\n"
    )
    (tmp_path / "a.yaml").write_text(content)
    assert [line.split(" ")[0] for line in problems(tmp_path / "a.yaml")] == ["a.yaml:7:27:", "a.yaml:8:41:"]
    (tmp_path / "b.yaml").write_text(content.partition("recipe")[0] + "recipe: {epochs: 4, batch_size: 16}\n")
    [line] = problems(tmp_path / "b.yaml")
    assert line == (
        "b.yaml:5:9: recipe on blobs × perceptron: augmentation.crop_padding is 4; at most 3 for images of 4×4 pixels"
    )


NUMPY = (np.array([0.5]), np.array([0.25]))


@pytest.mark.parametrize(
    "given",
    [
        ((0.5,), (0.25,)),
        [[0.5], [0.25]],
        NUMPY,
        np.array([[0.5], [0.25]]),
        (np.float32([0.5]), (np.float64(0.25),)),
        (torch.tensor([0.5]), torch.tensor([0.25])),
    ],
    ids=["tuples", "lists", "arrays", "array", "mixed", "tensors"],
)
def test_normalization_of_a_data_set(given: Any) -> None:
    """Any kind of array becomes tuples of Python's numbers."""
    found = normalization_of(Recipe(), gray(given)())
    assert found == ((0.5,), (0.25,))
    assert all(type(value) is float for values in found for value in values)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (((0.5,), (0.0,)), "its normalization has deviation 0.0 in channel 0; at least 0.001 and at most 1"),
        (
            (np.array([0.5]), np.array([np.nan])),
            "its normalization has deviation nan in channel 0; at least 0.001 and at most 1",
        ),
        (((118.0,), (0.2,)), "its normalization has mean 118.0 in channel 0; at least 0 and at most 1"),
        (((0.5, 0.5), (0.2, 0.2)), "its normalization has 2 means and 2 deviations; images of 'gray' have 1 channel"),
        ((0.5, 0.2), "its normalization is (0.5, 0.2); a sequence of means and one of deviations"),
        (None, "its normalization is None; a sequence of means and one of deviations"),
        ((("0.5",), ("0.2",)), "its normalization is (('0.5',), ('0.2',)); a sequence of means and one of deviations"),
    ],
    ids=str,
)
def test_normalization_that_cannot_work(tmp_path: Path, given: Any, fault: str) -> None:
    """The data set is named, before anything is trained; a recipe with one of its own does not need it."""
    catalogue = toys.catalogue(("dataset", gray(given)))
    [line] = problems(toy_file(tmp_path, datasets=["gray"]), catalogue)
    assert line.partition(": ")[2] == f"recipe on gray × perceptron: data set 'gray': {fault}"
    own = toy_file(tmp_path, datasets=["gray"], recipe={**RECIPE, "normalization": [[0.5], [0.25]]})
    assert load_benchmark(own, catalogue).setups


def test_normalization_that_fails(tmp_path: Path) -> None:
    """A property that raises is named with its error."""

    class Failing(toys.Blobs):
        name = "failing"

        @property
        def normalization(self) -> Any:
            raise KeyError("mean")

    [line] = problems(toy_file(tmp_path, datasets=["failing"]), toys.catalogue(("dataset", Failing)))
    said = "recipe on failing × perceptron: data set 'failing': its normalization fails: KeyError: 'mean' (test_recipe.py:"
    assert line.partition(": ")[2].startswith(said)


def test_check_that_fails(tmp_path: Path) -> None:
    """A builder whose check raises anything is named with its error."""

    class Old(toys.catalogue().get("ensemble_builder", "deep")):  # type: ignore[misc]
        name = "old"

        def check(self, recipe: Any, members: int) -> None:
            raise AttributeError("epochs")

    [line] = problems(toy_file(tmp_path, methods=["old"]), toys.catalogue(("ensemble_builder", Old)))
    assert line.partition(": ")[2].startswith(
        "old on blobs × perceptron: its check fails: AttributeError: epochs (test_recipe.py:"
    )


def test_plugin_that_cannot_be_made(tmp_path: Path) -> None:
    """A constructor that raises anything is named with its error."""

    class Broken(toys.Blobs):
        name = "broken"

        def __init__(self, options: Any = None) -> None:
            raise TypeError("no")

    [line] = problems(toy_file(tmp_path, datasets=["broken"]), toys.catalogue(("dataset", Broken)))
    assert line.partition(": ")[2].startswith("broken: it cannot be made: TypeError: no (test_recipe.py:")


def test_option_that_cannot_be_in_a_key(tmp_path: Path) -> None:
    """A plugin with an option of a type that no key can hold is refused at its entry."""

    class Secret(toys.Blobs):
        name = "secret"

        class Options(toys.Blobs.Options):
            token: SecretStr = SecretStr("")

    [line] = problems(toy_file(tmp_path, datasets=[{"secret": {"token": "x"}}]), toys.catalogue(("dataset", Secret)))
    assert line.partition(": ")[2] == (
        "secret: option 'token': a value of type SecretStr cannot be in a key; "
        "numbers, texts, paths, dates, enumerations, models, lists, sets and mappings of them can"
    )


def test_normalization_by_arrays_trains_as_by_tuples(tmp_path: Path, lab: Lab) -> None:
    """The rows are those of a data set that gives tuples."""
    values = []
    for number, given in enumerate((((0.5,), (0.25,)), NUMPY)):
        (tmp_path / str(number)).mkdir()
        own = Lab(tmp_path / str(number))
        catalogue = toys.catalogue(("dataset", gray(given)))
        own.run(plan(load_benchmark(toy_file(tmp_path, datasets=["gray"], methods=["deep"]), catalogue)), catalogue)
        values.append(list(read_rows(own.out)["value"]))
    assert values[0] == values[1]


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_every_command_refuses(tmp_path: Path, command: str) -> None:
    """Exit code 2 and the same line, without a traceback and before anything is written."""
    content = {
        "seeds": [0],
        "members": 2,
        "datasets": ["digits"],
        "architectures": [{"resnet20": {"width": 0.25}}],
        "methods": ["deep", "swe"],
        "recipe": {"epochs": 2, "optimizer": "adam", "learning_rate": 0.001, "betas": [0.9, 1.0]},
    }
    path = tmp_path / "b.yaml"
    path.write_text(yaml.safe_dump(content, default_flow_style=None))
    words = [sys.executable, "-m", "harness", command, str(path)]
    if command == "run":
        words += ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "st")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    line = f"{path}:7:16: recipe.betas[1]: 1.0 is out of range; a number of at least 0 and below 1\n"
    assert done.stderr.removeprefix("error: ") == line
    assert not (tmp_path / "st").exists()
