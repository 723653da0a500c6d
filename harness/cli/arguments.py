"""Arguments of several subcommands, and the values they stand for: folders, plugins, a validated benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.paths import UserPath

if TYPE_CHECKING:
    from harness.benchmark import Benchmark
    from harness.registry.catalogue import Catalogue

file_argument = click.argument("file", metavar="FILE", type=UserPath())
set_option = click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change the file's value at a dotted key; may be repeated."
)
store_option = click.option(
    "--store",
    metavar="DIR",
    type=UserPath(),
    help="Where computed objects are stored; default: HARNESS_STORE, else runs/store.",
)
data_option = click.option(
    "--data",
    metavar="DIR",
    type=UserPath(),
    help="Where data sets are; default: HARNESS_DATA, else the user's cache folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def open_catalogue() -> Catalogue:
    """Return the catalogue of the plugins, and print a warning for each that could not be loaded.

    It is the `obj` that the running command was called with, `command.main(…, obj=catalogue)`, or else that of the installed
    plugins.
    """
    catalogue: Catalogue | None = click.get_current_context().obj
    if catalogue is None:
        from harness.registry.catalogue import load_catalogue

        catalogue = load_catalogue()
    for problem in catalogue.problems:
        click.echo(f"warning: {problem}", err=True)
    return catalogue


def open_benchmark(file: Path, overrides: tuple[str, ...]) -> tuple[Benchmark, Catalogue]:
    """Return a validated benchmark and the catalogue of its plugins."""
    from harness.benchmark import load_benchmark

    catalogue = open_catalogue()
    return load_benchmark(file, catalogue, overrides), catalogue
