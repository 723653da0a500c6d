"""`harness members`: the file of each member's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli.arguments import json_option, store_option
from harness.cli.paths import UserPath
from harness.errors import DamagedObject, UserError
from harness.results.run_json import load_run_json
from harness.store import Store
from harness.text import escape_unprintable

_REMEDY = "`harness run` writes it anew"


@click.command()
@click.argument("folder", metavar="DIR", type=UserPath())
@store_option
@json_option
def members(folder: Path, store: Path | None, as_json: bool) -> None:
    """List the weights of every member of a run: safetensors files that hold a plain state dict.

    Each file is read against its digest; a missing or damaged one is marked.
    """
    run = _load_run(folder)
    try:
        opened = Store(store or Path(run["store"]))
        found = [_locate(opened, member) for member in run["members"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'run.json'}: does not say where members lie ({error}); {_REMEDY}") from None
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for entry in found:
        click.echo(escape_unprintable(_describe(entry)))
    if found and not opened.base.is_dir():
        warning = f"store {opened.root}: it is not there; if it was moved, name its place with --store"
        click.echo(escape_unprintable(warning), err=True)


def _load_run(folder: Path) -> dict[str, Any]:
    run = load_run_json(folder, _REMEDY)
    if run is None:
        raise UserError(f"{folder}: no run.json; name a folder that `harness run FILE --out DIR` has written")
    return run


def _locate(store: Store, member: dict[str, Any]) -> dict[str, Any]:
    """Return a member with the path of its weights and their state: "good", "missing" or the damage."""
    path = store.path(member["object"], member["part"])  # raises ValueError for an invalid key or part
    try:
        store.verify(member["object"])
        state = "good"
    except DamagedObject as error:
        state = error.reason if store.present(error.key) else "missing"
    names = ("dataset", "architecture", "method", "seed", "member", "key", "object", "part")
    facts = {name: member[name] for name in names}
    return {**facts, "path": str(path.resolve()), "state": state}


def _describe(entry: dict[str, Any]) -> str:
    """Return a member's line."""
    cell = f"{entry['dataset']} {entry['architecture']} {entry['method']} seed {entry['seed']}"
    line = f"{cell} member {entry['member']}  {str(entry['key'])[:12]}  {entry['path']}"
    return line if entry["state"] == "good" else f"{line}  ({entry['state']})"
