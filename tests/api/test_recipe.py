"""Recipes that cannot work, alone or with a data set: `check`, `plan` and `run` refuse them before anything is trained."""

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
    """Blobs with a given normalization."""

    name = "gray"
    given: Any = ((0.5,), (0.25,))

    @property
    def normalization(self) -> Any:
        return self.given


def gray(given: Any) -> type[Gray]:
    """Return a subclass of `Gray` with a normalization."""
    return type("Given", (Gray,), {"given": given})


def problems(path: Path, catalogue: Catalogue | None = None) -> list[str]:
    """Return the problems of a file, without the path of its folder."""
    with pytest.raises(BenchmarkError) as caught:
        load_benchmark(path, catalogue or toys.catalogue())
    return [line.removeprefix(f"{path.parent}/") for line in caught.value.problems]


DECAY = "a number of at least 0 and below 1"


@pytest.mark.parametrize(
    ("recipe", "problem"),
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
def test_recipe_that_cannot_work(tmp_path: Path, recipe: dict[str, Any], problem: str) -> None:
    """The only problem names the value and what is allowed."""
    [line] = problems(toy_file(tmp_path, recipe={**RECIPE, **recipe}))
    assert line.partition(": ")[2] == problem


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
    """The bounds of ranges, and values that the optimizer or the images do not use, are accepted."""
    assert len(benchmark_of(recipe={**RECIPE, **recipe}).setups) == 1


def test_position_of_a_value_that_does_not_fit_the_images(tmp_path: Path) -> None:
    """The problem has the position where the value was set last, or of the recipe if it is a default."""
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
    """Sequences, arrays and tensors become tuples of Python floats."""
    means, deviations = normalization_of(Recipe(), gray(given)())
    assert (means, deviations) == ((0.5,), (0.25,))
    assert {type(value) for value in (*means, *deviations)} == {float}


@pytest.mark.parametrize(
    ("given", "problem"),
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
def test_normalization_that_cannot_work(tmp_path: Path, given: Any, problem: str) -> None:
    """The problem names the data set; with a normalization in the recipe the data set's own is not used."""
    catalogue = toys.catalogue(("dataset", gray(given)))
    [line] = problems(toy_file(tmp_path, datasets=["gray"]), catalogue)
    assert line.partition(": ")[2] == f"recipe on gray × perceptron: data set 'gray': {problem}"
    own = toy_file(tmp_path, datasets=["gray"], recipe={**RECIPE, "normalization": [[0.5], [0.25]]})
    assert len(load_benchmark(own, catalogue).setups) == 1


def test_normalization_that_raises(tmp_path: Path) -> None:
    """The problem names the data set and the error."""

    class Failing(toys.Blobs):
        name = "failing"

        @property
        def normalization(self) -> Any:
            raise KeyError("mean")

    [line] = problems(toy_file(tmp_path, datasets=["failing"]), toys.catalogue(("dataset", Failing)))
    problem = "recipe on failing × perceptron: data set 'failing': its normalization fails: KeyError: 'mean' (test_recipe.py:"
    assert line.partition(": ")[2].startswith(problem)


def test_check_of_a_builder_that_raises(tmp_path: Path) -> None:
    """The problem names the method and the error."""

    class Old(toys.catalogue().get("ensemble_builder", "deep")):  # type: ignore[misc]
        name = "old"

        def check(self, recipe: Any, members: int) -> None:
            raise AttributeError("epochs")

    [line] = problems(toy_file(tmp_path, methods=["old"]), toys.catalogue(("ensemble_builder", Old)))
    assert line.partition(": ")[2].startswith(
        "old on blobs × perceptron: its check fails: AttributeError: epochs (test_recipe.py:"
    )


def test_constructor_that_raises(tmp_path: Path) -> None:
    """The problem names the data set and the error."""

    class Broken(toys.Blobs):
        name = "broken"

        def __init__(self, options: Any = None) -> None:
            raise TypeError("no")

    [line] = problems(toy_file(tmp_path, datasets=["broken"]), toys.catalogue(("dataset", Broken)))
    assert line.partition(": ")[2].startswith("broken: it cannot be made: TypeError: no (test_recipe.py:")


def test_option_that_cannot_be_in_a_key(tmp_path: Path) -> None:
    """The problem names the option and its type."""

    class Secret(toys.Blobs):
        name = "secret"

        class Options(toys.Blobs.Options):
            token: SecretStr = SecretStr("")

    [line] = problems(toy_file(tmp_path, datasets=[{"secret": {"token": "x"}}]), toys.catalogue(("dataset", Secret)))
    assert line.partition(": ")[2] == (
        "secret: option 'token': a value of type SecretStr cannot be in a key; "
        "numbers, texts, paths, dates, enumerations, models, lists, sets and mappings of them can"
    )


def test_run_with_a_normalization_of_arrays(tmp_path: Path) -> None:
    """The rows have the values of a run with a normalization of tuples."""
    values = []
    for number, given in enumerate((((0.5,), (0.25,)), NUMPY)):
        (tmp_path / str(number)).mkdir()
        lab = Lab(tmp_path / str(number))
        catalogue = toys.catalogue(("dataset", gray(given)))
        file = toy_file(tmp_path, datasets=["gray"], methods=["deep"])
        lab.run(plan(load_benchmark(file, catalogue)), catalogue)
        values.append(list(read_rows(lab.out)["value"]))
    assert len(values[0]) == 12
    assert values[0] == values[1]


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_commands_with_a_recipe_that_cannot_work(tmp_path: Path, command: str) -> None:
    """Each command exits with 2 and prints the same line, and nothing is written."""
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
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.yaml"]
