"""`harness compare`: paired differences between the methods of one or several runs. Trains nothing."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from harness.cli.paths import UserPath
from harness.cli.standard_streams import print_document
from harness.comparison import FORMATS, compare_methods, read_compared_run, render_comparisons
from harness.files import write_atomically


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=UserPath())
@click.option("--baseline", metavar="METHOD", help="What the others are compared with; default: the first method of a table.")
@click.option("--metric", "metrics", metavar="NAME", multiple=True, help="A metric; repeat it. Default: the benchmark's own.")
@click.option(
    "--format", "form", type=click.Choice([*FORMATS]), default="markdown", show_default=True, help="The format of the tables."
)
@click.option("--out", metavar="FILE", type=UserPath(), help="Where to write the tables; default: print them.")
def compare(folders: tuple[Path, ...], baseline: str | None, metrics: tuple[str, ...], form: str, out: Path | None) -> None:
    """Print paired differences between a baseline and the other methods of the runs in DIR..., with 95 % intervals.

    Methods are paired by seed and, with the runs' examples.npz, by test image. The rows of several runs are joined. The margins
    of equivalence are those of the benchmark file.
    """
    comparisons = compare_methods([read_compared_run(folder) for folder in folders], baseline, metrics)
    if out is not None:
        write_atomically(out, render_comparisons(comparisons, form))
    elif form == "markdown" and sys.stdout.isatty():
        from harness.comparison.formats import comparison_grids, ending
        from harness.leaderboard.terminal import fit_grids

        click.echo(fit_grids(comparison_grids(comparisons), ending(comparisons), shutil.get_terminal_size().columns), nl=False)
    else:
        print_document(render_comparisons(comparisons, form))
