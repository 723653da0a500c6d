"""Folders as users name them: `~` is expanded; environment variables and defaults stand in for what is not given."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import UserError
from harness.execution.data_root import default_data_root


def store_folder(given: str | Path | None) -> Path:
    """Return the store's folder: the given one, else HARNESS_STORE, else `runs/store`."""
    if given is not None:
        return expanded(str(given), "store")
    return from_environment("HARNESS_STORE") or Path("runs/store")


def data_folder(given: str | Path | None) -> Path:
    """Return the data root: the given one, else HARNESS_DATA, else the user's cache folder."""
    if given is not None:
        return expanded(str(given), "data")
    return from_environment("HARNESS_DATA") or default_data_root()


def expanded(text: str, where: str) -> Path:
    """Return a path with its leading `~` expanded; `where` is the option or variable that it was read from.

    Raise `UserError` if the path is empty or there is no such home folder.
    """
    if not text.strip():
        raise UserError(f"{where}: the path is empty; name a file or folder")
    path = Path(text)
    if not text.startswith("~"):
        return path
    user = path.parts[0].removeprefix("~")
    has_home = bool(user) or Path(os.environ.get("HOME", "/")).is_absolute()
    home = _expanded_by_system(path) if has_home else None
    if home is not None:
        return home
    reason = "there is no home folder (HOME names none)"
    if user:
        reason = f"there is no user '{user}' here"
    raise UserError(f"{where} {text}: {reason}; write the path in full, or ./{text} for a folder of that name")


def _expanded_by_system(path: Path) -> Path | None:
    try:
        found = path.expanduser()
    except RuntimeError:
        return None
    return found if found.is_absolute() else None


def from_environment(variable: str) -> Path | None:
    """Return the path in an environment variable; None if the variable is not set or blank."""
    text = os.environ.get(variable, "")
    return expanded(text, variable) if text.strip() else None
