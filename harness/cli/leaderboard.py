"""`harness leaderboard`: the board of the rows of one or several runs. Trains nothing."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.paths import UserPath
from harness.files import write_atomically
from harness.leaderboard import FORMATS, board, compare, read_reference, render
from harness.results.rows import load_rows
from harness.startup.garbage import garbage_collection_paused


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=UserPath())
@click.option(
    "--format", "form", type=click.Choice([*FORMATS]), default="markdown", show_default=True, help="The format of the board."
)
@click.option("--reference", metavar="FILE", type=UserPath(), help="CSV of published numbers to compare with.")
@click.option("--out", metavar="FILE", type=UserPath(), help="Where to write the board; default: print it.")
@click.option("--metrics", default="main", show_default=True, help="main, all, or names separated by commas, in that order.")
def leaderboard(folders: tuple[Path, ...], form: str, reference: Path | None, out: Path | None, metrics: str) -> None:
    """Print the leaderboard of the runs in DIR..., from their results.csv alone.

    The rows of several runs make one board: one run may hold the baselines, another your method.
    """
    with garbage_collection_paused():
        made = board({str(folder): load_rows(folder) for folder in folders}, metrics)
    if reference is not None:
        made = compare(made, read_reference(reference))
    text = render(made, form)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_atomically(out, text)
