"""`harness members`: where each member's weights lie."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli.arguments import json_option, read_run, store_option
from harness.errors import DamagedObject
from harness.store import Store


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@store_option
@json_option
def members(folder: Path, store: Path | None, as_json: bool) -> None:
    """List the weights of every member of a run: safetensors files that hold a plain state dict.

    Each file is read against its digest; one that is not there or is damaged is said to be.
    """
    run = read_run(folder)
    shelf = Store(store or Path(run["store"]))
    found = []
    for member in run["members"]:
        try:
            shelf.verify(member["object"])
            state = "good"
        except DamagedObject as error:
            state = error.reason if shelf.present(error.key) else "missing"
        found.append({**member, "path": str(shelf.path(member["object"], member["part"]).resolve()), "state": state})
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for entry in found:
        where = f"{entry['dataset']} {entry['architecture']} {entry['method']} seed {entry['seed']} member {entry['member']}"
        click.echo(
            f"{where}  {entry['key'][:12]}  {entry['path']}" + ("" if entry["state"] == "good" else f"  ({entry['state']})")
        )
