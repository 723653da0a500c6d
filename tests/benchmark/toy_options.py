"""Options with a field of every type."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from pydantic import Field

import harness


class Color(Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


class Stage(harness.Options):
    """A part of options."""

    depth: int = Field(1, ge=1)
    sizes: tuple[int, int] = (1, 1)


class Shapes(harness.Options):
    """One field of each type that plugins use."""

    auto: int | Literal["auto"] = "auto"
    switch: bool | None = None
    word: bool | str = True
    color: Color = Color.RED
    stages: tuple[Stage, ...] = ()
    either: Stage | tuple[int, ...] | None = None
    chosen: frozenset[str] = frozenset()
    rates: dict[str, float] = {}
    pairs: list[tuple[int, float]] = []
    anything: Any = None
    share: float = Field(0.5, gt=0, le=1)
    heads: int = Field(4, ge=1, multiple_of=4)
    most: int = Field(4, le=9)
