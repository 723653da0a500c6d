"""`harness explain`: the specification behind a key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli.arguments import store_option
from harness.errors import DamagedObject, StoreError
from harness.runs.places import store_folder
from harness.store import Store


@click.command()
@click.argument("key", metavar="KEY")
@store_option
def explain(key: str, store: Path | None) -> None:
    """Print the specification behind a key, or the start of one, and the metadata of its object if it is stored."""
    opened = Store(store_folder(store))
    click.echo(json.dumps(describe_key(opened, opened.resolve(key)), indent=1))


def describe_key(store: Store, key: str) -> dict[str, Any]:
    """Return the kind and the spec behind a key, and the metadata of its object if it is stored."""
    stored = True
    try:
        known = store.meta(key)
    except DamagedObject:
        known = store.read_task(key)
        stored = False
    if not (isinstance(known.get("kind"), str) and isinstance(known.get("spec"), dict)):
        raise StoreError(f"{store.root}: what lies under {key[:12]} does not say what it is made of")
    description = {"key": key, "kind": known["kind"], "stored": stored}
    metadata = known if stored else {"spec": known["spec"]}
    for name, value in metadata.items():
        description.setdefault(name, value)
    return description
