"""Options that select corruptions and severities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, field_validator

from harness import Dataset, Options

SEVERITIES = (1, 2, 3, 4, 5)


class SeverityOptions(Options):
    """The severities of an evaluation set of corrupted images."""

    severities: tuple[int, ...] = Field(SEVERITIES, min_length=1, description="severities to use, from 1 to 5")

    @field_validator("severities", mode="before")
    @classmethod
    def _accept_list(cls, severities: Any) -> Any:
        return tuple(severities) if isinstance(severities, list) else severities

    @field_validator("severities")
    @classmethod
    def _check_severities(cls, severities: tuple[int, ...]) -> tuple[int, ...]:
        for severity in severities:
            if severity not in SEVERITIES:
                raise ValueError(f"severity {severity} does not exist; from 1 to 5")
        return without_repetitions(severities, "severity")


def selected(names: Any, known: Sequence[str], among: str) -> Any:
    """Return the names of corruptions as a tuple, in the order of `known`. Raise `ValueError` for unknown or repeated ones."""
    if isinstance(names, list):
        names = tuple(names)
    if not isinstance(names, tuple):
        return names  # pydantic refuses it
    if not names:
        raise ValueError("names no corruption; at least one, or null")
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is none of {among}; known: {', '.join(known)}")
    return tuple(sorted(without_repetitions(names, "corruption"), key=known.index))


def without_repetitions(values: tuple[Any, ...], noun: str) -> tuple[Any, ...]:
    """Return the values sorted; raise `ValueError` if one is named twice."""
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{noun} {value!r} is named {values.count(value)} times; name each once")
    return tuple(sorted(values))


def image_text(dataset: Dataset) -> str:
    """Return a data set's name and the form of its images for messages."""
    channels, height, width = dataset.shape
    noun = "channel" if channels == 1 else "channels"
    return f"data set '{dataset.full_name}' are {height}×{width} pixels with {channels} {noun}"


def split_names(corruptions: Sequence[str], severities: Sequence[int]) -> tuple[str, ...]:
    """Return the names of splits, `<corruption>/<severity>`."""
    return tuple(f"{corruption}/{severity}" for corruption in corruptions for severity in severities)


def split_parts(split: str) -> tuple[str, int]:
    """Return the corruption and the severity of a split."""
    corruption, severity = split.split("/")
    return corruption, int(severity)
