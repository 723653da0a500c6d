"""`harness leaderboard`: the board of the rows of one or several runs. Trains nothing."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from harness.cli.paths import UserPath
from harness.cli.standard_streams import print_document
from harness.errors import UserError
from harness.files import write_atomically
from harness.leaderboard import FORMATS, Board, PaperOptions, board, compare, read_reference, render
from harness.results.columns import load_many
from harness.startup.garbage import garbage_collection_paused

_FOR_PAPERS = "With --format latex: "


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=UserPath())
@click.option(
    "--format", "form", type=click.Choice([*FORMATS]), default="markdown", show_default=True, help="The format of the board."
)
@click.option("--reference", metavar="FILE", type=UserPath(), help="CSV of published numbers to compare with.")
@click.option("--out", metavar="FILE", type=UserPath(), help="Where to write the board; default: print it.")
@click.option(
    "--metrics",
    "--columns",
    default="main",
    show_default=True,
    help="The columns: main, all, or names of metrics separated by commas, in that order.",
)
@click.option("--letters", is_flag=True, help="Mark all groups that cannot be told apart with letters, from six seeds on.")
@click.option("--no-std", is_flag=True, help=f"{_FOR_PAPERS}leave out the standard deviations.")
@click.option("--digits", type=int, metavar="N", help=f"{_FOR_PAPERS}decimals of percentages; default: 2.")
@click.option("--caption", metavar="TEXT", help=f"{_FOR_PAPERS}LaTeX source of the caption.")
@click.option("--label", metavar="NAME", help=f"{_FOR_PAPERS}the table's label.")
@click.option("--wide", is_flag=True, help=f"{_FOR_PAPERS}a table* across both columns of a page.")
def leaderboard(
    folders: tuple[Path, ...],
    form: str,
    reference: Path | None,
    out: Path | None,
    metrics: str,
    letters: bool,
    no_std: bool,
    digits: int | None,
    caption: str | None,
    label: str | None,
    wide: bool,
) -> None:
    """Print the leaderboard of the runs in DIR..., from their results.csv alone.

    The rows of several runs make one board: one run may hold the baselines, another your method. From six seeds on, the entries
    that cannot be told apart from the best of their column are bold.
    """
    given = {"--no-std": no_std, "--digits": digits is not None, "--caption": caption, "--label": label, "--wide": wide}
    _require_latex(form, [option for option, is_given in given.items() if is_given])
    paper = PaperOptions(caption or "", label or "", not no_std, 2 if digits is None else digits, wide)
    with garbage_collection_paused():
        made = board(load_many(folders), metrics, letters=letters)
    if reference is not None:
        made = compare(made, read_reference(reference))
    if out is not None:
        write_atomically(out, _render(made, form, paper))
    elif form == "markdown" and sys.stdout.isatty():
        from harness.leaderboard.terminal import render_fitted

        click.echo(render_fitted(made, shutil.get_terminal_size().columns), nl=False)
    else:
        print_document(_render(made, form, paper))


def _require_latex(form: str, options: list[str]) -> None:
    """Raise `UserError` for options of LaTeX tables beside another format."""
    if options and form != "latex":
        raise UserError(f"{options[0]}: for --format latex alone, not {form}; leave it out, or choose that format")


def _render(made: Board, form: str, paper: PaperOptions) -> str:
    return render(made, form, paper if form == "latex" else None)
