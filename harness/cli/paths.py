"""Paths as users write them. A leading `~` is expanded, which shells do not do in `--store=~/x`, nor containers and YAML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from harness.errors import UserError


class UserPath(click.ParamType):
    """A parameter type for paths, which need not exist. A leading `~` or `~user` is the user's home folder."""

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


def _label(param: click.Parameter | None) -> str:
    """Return what messages call a parameter."""
    if param is None:
        return "path"
    if isinstance(param, click.Option):
        return param.opts[0]
    return str(param.metavar or param.name).rstrip(".")
