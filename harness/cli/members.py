"""`harness members`: where each member's weights lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli.arguments import json_option, read_run, store_option
from harness.cli.paths import UserPath
from harness.errors import DamagedObject, UserError
from harness.store import Store
from harness.text import escape_unprintable


@click.command()
@click.argument("folder", metavar="DIR", type=UserPath())
@store_option
@json_option
def members(folder: Path, store: Path | None, as_json: bool) -> None:
    """List the weights of every member of a run: safetensors files that hold a plain state dict.

    Each file is read against its digest; one that is not there or is damaged is said to be.
    """
    run = read_run(folder)
    try:
        shelf = Store(store or Path(run["store"]))
        found = [_found(shelf, member) for member in run["members"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / 'run.json'}: does not say where members lie ({error}); `harness run` writes it anew"
        ) from None
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for entry in found:
        where = f"{entry['dataset']} {entry['architecture']} {entry['method']} seed {entry['seed']} member {entry['member']}"
        state = "" if entry["state"] == "good" else f"  ({entry['state']})"
        click.echo(escape_unprintable(f"{where}  {str(entry['key'])[:12]}  {entry['path']}{state}"))
    if found and not shelf.base.is_dir():
        click.echo(
            escape_unprintable(f"store {shelf.root}: it is not there; if it was moved, name its place with --store"), err=True
        )


def _found(shelf: Store, member: dict[str, Any]) -> dict[str, Any]:
    """Return a member with the path of its weights, and whether they are good."""
    path = shelf.path(member["object"], member["part"])  # raises ValueError for what is no key, or no part
    try:
        shelf.verify(member["object"])
        state = "good"
    except DamagedObject as error:
        state = error.reason if shelf.present(error.key) else "missing"
    where = {name: member[name] for name in ("dataset", "architecture", "method", "seed", "member", "key", "object", "part")}
    return {**where, "path": str(path.resolve()), "state": state}
