"""The format of a benchmark file as models. Validation, messages and JSON schema are derived from their fields."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any

from pydantic import Field, field_validator

from harness.api.options import Options

MAX_CELLS = 100_000
MAX_VARIANTS = 1_000

_ENTRIES = "each a name, or 'name: {option: value}'"
_Filter = str | Annotated[tuple[str, ...], Field(min_length=1)] | None
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


class SettingsBlock(Options):
    """Changes for some setups (dataset × architecture)."""

    dataset: _Filter = Field(None, description="the datasets, by label or name, one or a list; default: all")
    architecture: _Filter = Field(None, description="the architectures, by label or name, one or a list; default: all")
    methods: _Filter = Field(None, description="the methods that run there, by label or name, one or a list; default: all")
    recipe: dict[str, Any] | None = Field(None, description="values that replace those of the file's recipe, key by key")
    method_options: dict[str, Any] | None = Field(
        None, description="options for every method that has them and does not set them itself"
    )


class BenchmarkFile(Options):
    """A benchmark: every method on every dataset × architecture, once per seed.

    Keys that begin with `x-` are ignored; they can hold YAML anchors.
    """

    name: str = Field(
        "",
        pattern=r"^[a-z0-9][a-z0-9._-]*$",
        max_length=100,
        description="the benchmark's name in rows and boards; default: the file's name",
        examples=["quickstart"],
    )
    description: str = Field("", description="free text")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        min_length=1, description="the seeds themselves, all different; a plain integer is not accepted", examples=[[0, 1, 2]]
    )
    members: int = Field(5, ge=1, le=10_000, description="M, the number of members of an ensemble")
    datasets: tuple[Any, ...] = Field(min_length=1, description=f"datasets, {_ENTRIES}", examples=[["cifar10"]])
    architectures: tuple[Any, ...] = Field(min_length=1, description=f"architectures, {_ENTRIES}", examples=[["resnet20"]])
    methods: tuple[Any, ...] = Field(
        min_length=1, description=f"ensemble builders, {_ENTRIES}; 'grid' gives one method per value", examples=[["deep"]]
    )
    metrics: tuple[Any, ...] = Field(
        (),
        min_length=1,
        description=f"metrics, {_ENTRIES}; default: those that plugins mark as default",
        examples=[["ensemble_accuracy"]],
    )
    objective: Any = Field(
        None,
        description="the loss of plain training, a name or 'name: {option: value}'; default: the one marked as default",
    )
    equivalence: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="margins for `harness compare`: methods whose difference in a metric is smaller count as equivalent; "
        "'metric: margin', in the metric's unit",
    )
    observe: tuple[Any, ...] = Field(
        (),
        description=f"observers that follow runs, such as loggers, {_ENTRIES}; default: none",
    )
    recipe: dict[str, Any] = Field({}, description="how every network is trained")
    settings: tuple[SettingsBlock, ...] = Field((), description="changes for some dataset × architecture; later blocks win")

    @field_validator("name")
    @classmethod
    def _no_device(cls, name: str) -> str:
        if _DEVICE.fullmatch(name):
            raise ValueError(f"'{name}' is the name of a device on some systems, and no folder's; choose another")
        return name

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        for seed, times in Counter(seeds).items():
            if times > 1:
                raise ValueError(f"{seed} is listed {times} times; seeds are all different")
        return seeds


# By kind of plugin: the key of its list, its name in messages, and the keys that its entries reserve.
SECTIONS = {
    "dataset": "datasets",
    "architecture": "architectures",
    "ensemble_builder": "methods",
    "metric": "metrics",
    "observer": "observe",
}
WORDS = {"ensemble_builder": "method"}
RESERVED = {"dataset": ("label",), "architecture": ("label",), "ensemble_builder": ("label", "grid"), "metric": ("label",)}
OPTIONAL = {name for name, field in BenchmarkFile.model_fields.items() if not field.is_required()}


def is_family(name: str) -> bool:
    """Return whether a registered name stands for a family of names, as `timm/<name>` does."""
    return name.endswith(">") and "/<" in name
