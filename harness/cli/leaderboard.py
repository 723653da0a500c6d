"""`harness leaderboard`: the board from the rows of one or several runs. Nothing is trained."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.paths import UserPath
from harness.files import write_atomically
from harness.leaderboard import FORMATS, board, compare, read_reference, render
from harness.results.rows import read_rows


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=UserPath())
@click.option("--format", "form", type=click.Choice([*FORMATS]), default="markdown", show_default=True, help="How to write it.")
@click.option("--reference", metavar="FILE", type=UserPath(), help="CSV of published numbers to compare with.")
@click.option("--out", metavar="FILE", type=UserPath(), help="Where to write the board; default: print it.")
@click.option("--metrics", default="main", show_default=True, help="main, all, or names with commas between, in that order.")
def leaderboard(folders: tuple[Path, ...], form: str, reference: Path | None, out: Path | None, metrics: str) -> None:
    """Print the leaderboard of the runs in DIR..., from their results.csv alone.

    Several runs are laid together: one may hold the baselines, another your method.
    """
    ours = board({str(folder): read_rows(folder) for folder in folders}, metrics)
    if reference is not None:
        ours = compare(ours, read_reference(reference))
    text = render(ours, form)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_atomically(out, text)
