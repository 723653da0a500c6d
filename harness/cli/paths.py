"""Paths as users write them. A leading `~` is expanded, which shells do not do in `--store=~/x`, nor containers and YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.runs.places import expanded


class UserPath(click.ParamType):
    """A parameter type for paths, which need not exist. A leading `~` or `~user` is the user's home folder."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; raise `UserError` if there is no such home folder."""
        if isinstance(value, Path):
            return value
        return expanded(str(value), _label(param))


def _label(param: click.Parameter | None) -> str:
    """Return what messages call a parameter."""
    if param is None:
        return "path"
    if isinstance(param, click.Option):
        return param.opts[0]
    return str(param.metavar or param.name).rstrip(".")
