"""Paths as users write them: `~` is expanded, which the shell leaves to us in `--store=~/x`, in containers and in YAML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from harness.errors import UserError


class UserPath(click.ParamType):
    """Reads a path. Nothing needs to be there; a leading `~` or `~user` is the user's home folder."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; raise `UserError` if there is no such home folder."""
        if isinstance(value, Path):
            return value
        return expanded(str(value), _label(param))


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
    home = None if not user and not Path(os.environ.get("HOME", "/")).is_absolute() else _expanded_by_system(path)
    if home is not None:
        return home
    reason = f"there is no user '{user}' here" if user else "there is no home folder (HOME names none)"
    raise UserError(f"{where} {text}: {reason}; write the path in full, or ./{text} for a folder of that name")


def _expanded_by_system(path: Path) -> Path | None:
    try:
        found = path.expanduser()
    except RuntimeError:
        return None
    return found if found.is_absolute() else None


def from_environment(variable: str) -> Path | None:
    """Return the path in an environment variable, or nothing if it is not set or blank."""
    text = os.environ.get(variable, "")
    return expanded(text, variable) if text.strip() else None


def _label(param: click.Parameter | None) -> str:
    if isinstance(param, click.Option):
        return param.opts[0]
    return str(param.metavar or param.name).rstrip(".") if param is not None else "path"
