"""Durations as people write them: 25m, 1h30m, 90s, 2d, or seconds."""

from __future__ import annotations

import re
from typing import Any

import click

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_LONGEST = 10 * 365 * 86400.0


class Duration(click.ParamType):
    """Reads a duration; its value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        seconds = seconds_of(str(value))
        if seconds is None:
            self.fail(f"{value!r} is no duration; write 25m, 1h30m, 90s or 2d", param, ctx)
        return seconds


def seconds_of(text: str) -> float | None:
    """Return the seconds of a duration (more than 0, at most ten years), or nothing if it is none."""
    found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip().lower(), re.ASCII)
    if found is None or len(text) > 40:
        return None
    seconds = sum(float(part or 0) * unit for part, unit in zip(found.groups(), _SECONDS.values(), strict=True))
    return seconds if 0 < seconds <= _LONGEST else None
