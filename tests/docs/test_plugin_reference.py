"""The reference on the pages for plugin authors names everything that the code offers them, with its arguments."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import harness
from harness import schedules, testing
from harness.registry.catalogue import KINDS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PLUGINS = (DOCS / "plugins.md").read_text(encoding="utf-8")
METRICS = (DOCS / "metrics.md").read_text(encoding="utf-8").partition("## Your own metric")[2]


def public(cls: type) -> set[str]:
    """Return the public attributes and methods of a class."""
    return {name for name in vars(cls) if not name.startswith("_")}


def schedule_classes() -> list[type[schedules.Schedule]]:
    """Return the schedules that a plugin can create; there are some."""
    found = [cls for cls in vars(schedules).values() if isinstance(cls, type) and issubclass(cls, schedules.Schedule)]
    found.remove(schedules.Schedule)
    assert found
    return found


@pytest.mark.parametrize("cls", schedule_classes(), ids=lambda cls: cls.__name__)
def test_schedule_is_in_the_table(cls: type[schedules.Schedule]) -> None:
    """The table gives its arguments in order, and their defaults."""
    arguments = []
    for name, field in cls.model_fields.items():
        if name != "kind":
            arguments.append(f"{name}={'…' if field.is_required() else field.default}")
    assert f"| `{cls.__name__}({', '.join(arguments)})` |" in PLUGINS


def test_every_hook_is_in_the_table() -> None:
    """A kind of plugin that the table lacks is found by nobody."""
    for hook, base in KINDS.values():
        assert f"| `{hook}` | `{base.__name__}` |" in PLUGINS


@pytest.mark.parametrize("name", testing.__all__)
def test_function_for_tests_is_on_the_page(name: str) -> None:
    """The page names it; where it shows arguments, these are its parameters."""
    function = getattr(testing, name)
    assert f"`{name}" in PLUGINS
    for call in re.findall(rf"^\| `{name}\((.*?)\)` \|", PLUGINS, re.MULTILINE):
        names = [argument.partition("=")[0] for argument in call.split(", ")]
        assert names == list(inspect.signature(function).parameters)[: len(names)]


@pytest.mark.parametrize(
    "function", [harness.Checkpoint.fork, harness.Cell.trajectory], ids=lambda function: function.__qualname__
)
def test_changes_of_a_training_are_on_the_page(function: object) -> None:
    """Each argument of `trajectory` and `fork` is used on the page."""
    reference = PLUGINS.partition("Ensemble builders:")[2].partition("Networks and data:")[0]
    for name in inspect.signature(function).parameters:  # type: ignore[arg-type]
        if name != "self":
            assert re.search(rf"\b{name}\b", reference), name


def test_attributes_of_an_ensemble_are_in_the_table() -> None:
    """`interpolated` is left out: the methods around it say what a metric can ask."""
    rows = "\n".join(line for line in METRICS.splitlines() if line.startswith("| `"))
    missing = [name for name in public(harness.EvaluatedEnsemble) - {"interpolated"} if not re.search(rf"`{name}[`(]", rows)]
    assert missing == []


def test_fields_of_a_derivation_context_are_on_the_page() -> None:
    """One bullet names them all."""
    (bullet,) = re.findall(r"^- \*\*A derivation receives.*?(?=^- )", PLUGINS, re.MULTILINE | re.DOTALL)
    for name in harness.DerivationContext.__dataclass_fields__:
        assert f"`{name}" in bullet
