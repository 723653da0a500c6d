"""`harness explain`: what a key is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli.arguments import store_folder, store_option
from harness.errors import DamagedObject
from harness.store import Store


@click.command()
@click.argument("key", metavar="KEY")
@store_option
def explain(key: str, store: Path | None) -> None:
    """Print what a key (or the start of one) is made of, and how the object came about if it is stored."""
    shelf = Store(store_folder(store))
    click.echo(json.dumps(facts(shelf, shelf.resolve(key)), indent=1))


def facts(shelf: Store, key: str) -> dict[str, Any]:
    """Return what the store knows of a key: its spec, and the stored object's meta-data."""
    try:
        meta = shelf.meta(key)
    except DamagedObject:
        task = shelf.read_task(key)
        return {"key": key, "kind": task["kind"], "stored": False, "spec": task["spec"]}
    return {"key": key, "kind": meta["kind"], "stored": True, **{k: v for k, v in meta.items() if k not in ("key", "kind")}}
