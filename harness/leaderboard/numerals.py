"""Numbers as a board prints them: digits that mean something, a spread beside its mean."""

from __future__ import annotations

import math

from harness.leaderboard.tables import Entry


def format_number(value: float, unit: str = "", scale: float = 0) -> str:
    """Return a number as a board prints it: percent with two decimals, epochs with one at most, all else with four significant
    digits, those of `scale` if that is larger (a mean's spread, or the mean of a spread)."""
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
    text = text.removesuffix(".0") if unit == "epochs" else text
    return text.removeprefix("-") if float(text) == 0 else text


def with_spread(mean: float, std: float | None, unit: str) -> str:
    if std is None:
        return format_number(mean, unit)
    return f"{format_number(mean, unit, std)} ± {format_number(std, unit, abs(mean))}"


def entry_text(entry: Entry, unit: str) -> str:
    """Return an entry as a board prints it: `93.1 ± 0.2`, `93.1 ± 0.2 (2/3)`, `93.1 ± 0.2 ‡` (of a degenerate ensemble),
    `failed`, `missing`, `nan †` or `—`."""
    if entry.mean is None:
        return "—" if entry.status == "absent" else entry.status
    mark = " ‡" if entry.warnings else ""
    if entry.status == "nan":
        return f"nan †{mark}"
    text = with_spread(entry.mean, entry.std, unit)
    if entry.n != entry.expected:
        text = f"{text} ({entry.n}/{entry.expected})"
    return text + mark
