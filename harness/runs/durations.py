"""Durations as users write them: 25m, 1h30m, 90s, 2d, or a number of seconds."""

from __future__ import annotations

import re

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_MAX_SECONDS = 10 * 365 * 86400.0


def seconds_of(text: str) -> float | None:
    """Return a duration in seconds, above 0 and at most ten years; None for any other text."""
    found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip().lower(), re.ASCII)
    if found is None or len(text) > 40:
        return None
    seconds = 0.0
    for count, unit in zip(found.groups(), _SECONDS.values(), strict=True):
        seconds += float(count or 0) * unit
    return seconds if 0 < seconds <= _MAX_SECONDS else None
