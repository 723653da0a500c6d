"""Durations on the command line: 25m, 1h30m, 90s, 2d, or a number of seconds."""

from __future__ import annotations

import re
from typing import Any

import click

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_MAX_SECONDS = 10 * 365 * 86400.0


class Duration(click.ParamType):
    """A parameter type for durations. Its value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return a duration in seconds."""
        if isinstance(value, float):
            return value
        seconds = seconds_of(str(value))
        if seconds is None:
            self.fail(f"{value!r} is no duration; write 25m, 1h30m, 90s or 2d", param, ctx)
        return seconds


def seconds_of(text: str) -> float | None:
    """Return a duration in seconds, above 0 and at most ten years; None for any other text."""
    found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip().lower(), re.ASCII)
    if found is None or len(text) > 40:
        return None
    seconds = 0.0
    for count, unit in zip(found.groups(), _SECONDS.values(), strict=True):
        seconds += float(count or 0) * unit
    return seconds if 0 < seconds <= _MAX_SECONDS else None
