"""Numbers as a board prints them: the number of digits, and the spread of a mean."""

from __future__ import annotations

import math

from harness.leaderboard.tables import Entry


def format_number(value: float, unit: str = "", scale: float = 0) -> str:
    """Return a number as a board prints it.

    "percent" has two decimals, "epochs" at most one, and any other unit four significant digits. `scale` is the number beside
    it (the spread of a mean, or the mean of a spread): the decimals are those of the larger one.
    """
    scale = max(abs(value), scale)
    if not math.isfinite(scale) or scale >= 1e7:
        return f"{value:.4g}"
    if unit == "percent":
        decimals = 2
    elif unit == "epochs":
        decimals = 1
    elif scale == 0 or scale < 1e-4:
        return f"{value:.4g}"
    else:
        decimals = max(0, 3 - math.floor(math.log10(scale)))
    text = f"{value:.{decimals}f}"
    if unit == "epochs":
        text = text.removesuffix(".0")
    return text.removeprefix("-") if float(text) == 0 else text


def with_spread(mean: float, std: float | None, unit: str) -> str:
    """Return `93.1 ± 0.2`, or the mean alone."""
    if std is None:
        return format_number(mean, unit)
    return f"{format_number(mean, unit, std)} ± {format_number(std, unit, abs(mean))}"


def entry_text(entry: Entry, unit: str) -> str:
    """Return an entry as a board prints it.

    It is `93.1 ± 0.2`, `93.1 ± 0.2 (2/3)` for 2 of 3 seeds, `93.1 ± 0.2 ‡` for a degenerate ensemble, `failed`, `missing`,
    `nan †` or `—`.
    """
    if entry.mean is None:
        return "—" if entry.status == "absent" else entry.status
    mark = " ‡" if entry.warnings else ""
    if entry.status == "nan":
        return f"nan †{mark}"
    text = with_spread(entry.mean, entry.std, unit)
    if entry.n != entry.expected:
        text = f"{text} ({entry.n}/{entry.expected})"
    return text + mark
