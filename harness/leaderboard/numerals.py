"""Numbers as a board prints them: the number of digits, and the spread of a mean."""

from __future__ import annotations

import math

from harness.leaderboard.tables import Entry


def format_number(value: float, unit: str = "", scale: float = 0, digits: int = 2) -> str:
    """Return a number as a board prints it.

    "percent" has `digits` decimals, "epochs" at most one, and any other unit `digits` + 2 significant digits. `scale` is the
    number beside it (the spread of a mean, or the mean of a spread): the decimals are those of the larger one.
    """
    scale = max(abs(value), scale)
    if not math.isfinite(scale) or scale >= 1e7:
        return f"{value:.{digits + 2}g}"
    if unit == "percent":
        decimals = digits
    elif unit == "epochs":
        decimals = 1
    elif scale == 0 or scale < 1e-4:
        return f"{value:.{digits + 2}g}"
    else:
        decimals = max(0, digits + 1 - math.floor(math.log10(scale)))
    text = f"{value:.{decimals}f}"
    if unit == "epochs":
        text = text.removesuffix(".0")
    return text.removeprefix("-") if float(text) == 0 else text


def with_spread(mean: float, std: float | None, unit: str, digits: int = 2) -> str:
    """Return `93.1 ± 0.2`, or the mean alone."""
    if std is None:
        return format_number(mean, unit, digits=digits)
    return f"{format_number(mean, unit, std, digits)} ± {format_number(std, unit, abs(mean), digits)}"


def entry_text(entry: Entry, unit: str, *, std: bool = True, digits: int = 2) -> str:
    """Return an entry as a board prints it, with its standard deviation if `std` is true.

    It is `93.1 ± 0.2`, `93.1 ± 0.2 (2/3)` for 2 of 3 seeds, `93.1 ± 0.2 ‡` for a degenerate ensemble, `failed`, `missing`,
    `nan †` or `—`.
    """
    if entry.mean is None:
        return "—" if entry.status == "absent" else entry.status
    mark = " ‡" if entry.warnings else ""
    if entry.status == "nan":
        return f"nan †{mark}"
    text = with_spread(entry.mean, entry.std if std else None, unit, digits)
    if entry.n != entry.expected:
        text = f"{text} ({entry.n}/{entry.expected})"
    return text + mark
