"""`harness explain`: what a key is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli.arguments import store_folder, store_option
from harness.errors import DamagedObject, StoreError
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
        known, stored = shelf.meta(key), True
    except DamagedObject:
        known, stored = shelf.read_task(key), False
    if not (isinstance(known.get("kind"), str) and isinstance(known.get("spec"), dict)):
        raise StoreError(f"{shelf.root}: what lies under {key[:12]} does not say what it is made of")
    facts = {"key": key, "kind": known["kind"], "stored": stored}
    return {**facts, **({k: v for k, v in known.items() if k not in facts} if stored else {"spec": known["spec"]})}
