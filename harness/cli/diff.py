"""`harness diff`: why two keys differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from harness.cli.arguments import store_option
from harness.cli.explain import describe_key
from harness.errors import StoreError
from harness.runs.places import store_folder
from harness.store import Store
from harness.text import escape_unprintable

_ABSENT = object()


@click.command()
@click.argument("first", metavar="KEY")
@click.argument("second", metavar="KEY")
@store_option
def diff(first: str, second: str, store: Path | None) -> None:
    """Print every value in which the specifications of two keys differ, one per line."""
    opened = Store(store_folder(store))
    left = describe_key(opened, opened.resolve(first))
    right = describe_key(opened, opened.resolve(second))
    try:
        lines = list(differences({"kind": left["kind"], **left["spec"]}, {"kind": right["kind"], **right["spec"]}))
    except RecursionError:  # a spec that the harness wrote is not nested so deeply
        raise StoreError(f"{opened.root}: {first} or {second} is nested too deeply to compare") from None
    for line in lines:
        click.echo(escape_unprintable(line))
    if not lines:
        click.echo("no difference: both keys are of one thing")


def differences(left: Any, right: Any, path: str = "") -> Iterator[str]:
    """Yield `path: left → right` for every leaf that differs."""
    if isinstance(left, dict) and isinstance(right, dict):
        for name in sorted({*left, *right}):
            inner = f"{path}.{name}" if path else name
            yield from differences(left.get(name, _ABSENT), right.get(name, _ABSENT), inner)
    elif left != right:
        yield f"{path}: {_show(left)} → {_show(right)}"


def _show(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)
