"""`harness explain`: what a key stands for, and the specification behind it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from harness.cli.arguments import json_option, store_option
from harness.cli.paths import UserPath
from harness.errors import DamagedObject, StoreError, UnknownKey
from harness.results.run_keys import RunKeys
from harness.runs.key_sentences import sentence
from harness.runs.places import store_folder
from harness.store import Store
from harness.text import escape_unprintable

run_option = click.option(
    "--run",
    "runs",
    metavar="DIR",
    multiple=True,
    type=UserPath(),
    help="A run's folder: explains the keys of its settings, ensembles and members, too; may be repeated.",
)


@click.command()
@click.argument("key", metavar="KEY")
@store_option
@run_option
@json_option
def explain(key: str, store: Path | None, runs: tuple[Path, ...], as_json: bool) -> None:
    """Print what a key (or the start of one) stands for, then its specification, and the metadata of its object, as JSON."""
    description = find_key(key, store, runs)
    if not as_json:
        click.echo(escape_unprintable(sentence(description["kind"], description["spec"])))
    click.echo(json.dumps(description, indent=1))


def find_key(prefix: str, given_store: Path | None, folders: Sequence[Path]) -> dict[str, Any]:
    """Return kind, spec and metadata of the one key that begins with a prefix, in the store or in the folders of runs.

    The store is the given one, else that of the first run which names one, else the usual one. Raise `StoreError` if no or
    several keys begin so.
    """
    runs = [RunKeys(folder) for folder in folders]
    named = [run.store for run in runs if run.store is not None]
    store = Store(named[0] if named and given_store is None else store_folder(given_store))
    keys: set[str] = set()
    for run in runs:
        keys |= run.starting_with(prefix)
    stored = ""
    try:
        stored = store.resolve(prefix)
        keys.add(stored)
    except UnknownKey as error:
        if not keys:
            raise StoreError(f"{error}{_next_step(folders)}") from None
    if len(keys) > 1:
        raise StoreError(f"{len(keys)} keys of the store and the runs begin with '{prefix}'; give more digits")
    if stored:
        return describe_key(store, stored)
    key = keys.pop()
    run = next(run for run in runs if run.starting_with(key))
    return run.describe(key)


def _next_step(folders: Sequence[Path]) -> str:
    if folders:
        return f"; {', '.join(map(str, folders))} has no such key, either"
    return (
        ", or name the run's folder with --run DIR: settings, ensembles and members of "
        "a shared object are in its files, not in the store"
    )


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
