"""`harness new-plugin`: a folder with a working plugin as a template."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import click

from harness.errors import UserError

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1.0"
description = "A plugin for basin-harness."
requires-python = ">=3.11"
dependencies = ["basin-harness"]

[project.optional-dependencies]
test = ["pytest>=8.0"]

[project.entry-points.harness]
{module} = "{module}"

[tool.hatch.build.targets.wheel]
only-include = ["{module}.py"]
"""

MODULE = '''\
"""A plugin for basin-harness: an ensemble of snapshots. Replace it with your own method."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import Field

import harness
from harness import Cell, EnsembleBuilder, Recipe, Weights, hookimpl


class {cls}(EnsembleBuilder):
    """Snapshots of one training, the last at T."""

    name, version = "{method}", 1  # raise the version when results change

    class Options(harness.Options):
        """Options of this method; `harness list` shows them."""

        spacing: int = Field(1, ge=1, description="epochs between two snapshots")

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise an error for a recipe that is too short, before anything is trained."""
        if recipe.epochs - (members - 1) * self.options.spacing < 1:
            spacing = self.options.describe("spacing")
            raise ValueError(f"{{spacing}}; {{members}} snapshots do not fit into the recipe's {{recipe.epochs}} epochs")

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the members as handles. Nothing is trained here."""
        run = cell.trajectory(member=0)
        return [run.at(cell.epochs - j * self.options.spacing) for j in reversed(range(cell.size))]


@hookimpl
def register_ensemble_builders(register: Callable[[type[EnsembleBuilder]], None]) -> None:
    """Register the method."""
    register({cls})
'''

TEST = '''\
"""The method on a small board."""

from pathlib import Path


def test_on_a_board(harness_run):
    """Every cell is measured, and every member has learned: none is at chance, which is 10 %."""
    rows = harness_run(Path(__file__).with_name("try.yaml").read_text())
    assert set(rows["status"]) == {{"done"}}
    assert "{method}" in set(rows["method"])
    assert set(rows["warning"]) == {{""}}
    assert rows[rows["metric"] == "mean_member_accuracy"]["value"].min() > 80
'''

BENCHMARK = """\
# harness run try.yaml
name: try
seeds: [0]
members: 3
datasets: [digits]
architectures: [vit: {{patch: 2, width: 32, mlp: 64, depth: 2, heads: 4, dropout: 0.0}}]
methods: [deep, {method}]
metrics: [ensemble_accuracy, mean_member_accuracy, joint_connectivity]
recipe:
  epochs: 6
  batch_size: 32
  optimizer: adam
  learning_rate: 0.01
  weight_decay: 0.0
  precision: fp32  # the same run on every machine
  augmentation: {{crop_padding: 0, horizontal_flip: false}}
"""

README = """\
# {name}

A plugin for basin-harness.

    pip install -e '.[test]'
    harness list methods
    harness run try.yaml
    python -m pytest
"""


@click.command(name="new-plugin")
@click.argument("name", metavar="NAME")
def new_plugin(name: str) -> None:
    """Write a folder NAME with a plugin that works: a method, a benchmark and a test."""
    module = name.lower().replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,60}", module) or keyword.iskeyword(module):
        raise UserError(f"'{name}' cannot be a plugin's name; letters, digits and dashes, a letter first, at most 61")
    if module == "harness" or module.startswith("harness_"):
        raise UserError(f"'{name}' looks like one of the harness's own packages; take another name, such as 'my-method'")
    folder = Path(name)
    if folder.exists():
        raise UserError(f"{folder}: is there already; take another name")
    _check_free(name, module)
    words = {
        "name": name.lower(),
        "module": module,
        "method": module,
        "cls": "".join(part.capitalize() for part in module.split("_")),
    }
    templates = {
        "pyproject.toml": PYPROJECT,
        f"{module}.py": MODULE,
        f"test_{module}.py": TEST,
        "try.yaml": BENCHMARK,
        "README.md": README,
    }
    try:
        folder.mkdir()
        for file, template in templates.items():
            (folder / file).write_text(template.format(**words), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
    click.echo(f"{folder}: a plugin that works. Next:\n  pip install -e '{folder}[test]'\n  harness run {folder / 'try.yaml'}")


def _check_free(name: str, module: str) -> None:
    """Raise `UserError` if a plugin of this name would hide an installed module, or replace an installed distribution."""
    remedy = f"take another name, such as '{name}-method'"
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.origin is not None:  # any folder on the path is a namespace package, which has none
        raise UserError(f"'{name}': a module '{module}' is installed, and the plugin would hide it; {remedy}")
    try:
        distribution(name)
    except PackageNotFoundError:
        return
    raise UserError(f"'{name}': a distribution of that name is installed, and the plugin would replace it; {remedy}")
