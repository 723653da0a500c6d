"""Durations on the command line: 25m, 1h30m, 90s, 2d, or a number of seconds."""

from __future__ import annotations

from typing import Any

import click

from harness.runs.durations import seconds_of


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
