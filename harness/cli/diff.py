"""`harness diff`: why two keys differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from harness.cli.arguments import store_folder, store_option
from harness.cli.explain import facts
from harness.errors import StoreError
from harness.store import Store
from harness.text import escape_unprintable

_ABSENT = object()


@click.command()
@click.argument("first", metavar="KEY")
@click.argument("second", metavar="KEY")
@store_option
def diff(first: str, second: str, store: Path | None) -> None:
    """Print every place in which the things behind two keys differ, a line each."""
    shelf = Store(store_folder(store))
    left, right = (facts(shelf, shelf.resolve(key)) for key in (first, second))
    try:
        lines = list(differences({"kind": left["kind"], **left["spec"]}, {"kind": right["kind"], **right["spec"]}))
    except RecursionError:  # no spec of ours goes so deep
        raise StoreError(f"{shelf.root}: {first} or {second} is nested too deeply to compare") from None
    click.echo("\n".join(map(escape_unprintable, lines)) if lines else "no difference: both keys are of one thing")


def differences(left: Any, right: Any, path: str = "") -> Iterator[str]:
    """Yield `place: left → right` for every leaf that differs."""
    if isinstance(left, dict) and isinstance(right, dict):
        for name in sorted({*left, *right}):
            yield from differences(left.get(name, _ABSENT), right.get(name, _ABSENT), f"{path}.{name}" if path else name)
    elif left != right:
        yield f"{path}: {_show(left)} → {_show(right)}"


def _show(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)
