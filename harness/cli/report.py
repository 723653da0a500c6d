"""`harness report`: one HTML page of one or several runs, and their figures as files. Trains nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.arguments import open_catalogue
from harness.cli.paths import UserPath
from harness.errors import UserError
from harness.files import write_atomically
from harness.leaderboard import board
from harness.text import single_line

if TYPE_CHECKING:
    from harness.api.figure import Figure
    from harness.comparison import TableComparison
    from harness.registry.catalogue import Catalogue


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=UserPath())
@click.option("--out", metavar="FILE", type=UserPath(), help="Where to write the page; default: report.html in the first DIR.")
@click.option("--letters", is_flag=True, help="Mark all groups that cannot be told apart with letters, from six seeds on.")
@click.option("--figures", metavar="FOLDER", type=UserPath(), help="Also write every figure as PNG, SVG and CSV.")
def report(folders: tuple[Path, ...], out: Path | None, letters: bool, figures: Path | None) -> None:
    """Make one HTML page of the runs in DIR...: board, differences, figures, training curves, provenance.

    The page needs no other file and no network. It is made from each DIR's results.csv, run.json, events.jsonl and
    examples.npz; installed plugins draw the figures. The rows of several runs make one board.
    """
    from harness.report import make_figures, make_page, read_runs, write_figures

    run = read_runs(folders)
    tables = board(run.frames, letters=letters)
    comparisons, problems = _comparisons(folders)
    drawn = make_figures(run, tables, figure_plugins(open_catalogue()))
    drawn = replace(drawn, problems=(*problems, *drawn.problems))
    for problem in drawn.problems:
        click.echo(f"warning: {problem}", err=True)
    target = out or run.folder / "report.html"
    write_atomically(target, make_page(run, tables, drawn, comparisons))
    click.echo(f"page: {target}")
    if figures is not None:
        write_figures(drawn.figures, figures)
        click.echo(f"figures: {len(drawn.figures)} in {figures}, each as PNG, SVG and CSV")


def _comparisons(folders: Iterable[Path]) -> tuple[tuple[TableComparison, ...], tuple[str, ...]]:
    """Return the differences from the first method of each table, or none and the reason if the runs contradict each other."""
    from harness.comparison import compare_methods, read_compared_run

    try:
        return compare_methods([read_compared_run(folder) for folder in dict.fromkeys(folders)]), ()
    except UserError as error:
        return (), (f"the differences between methods are left out: {single_line(str(error))}",)


def figure_plugins(catalogue: Catalogue) -> dict[str, type[Figure]]:
    """Return the registered figures in order, by the label that messages use."""
    found: dict[str, Any] = {}
    for registration in catalogue.in_order("figure"):
        found[f"figure '{registration.name}' of {registration.source}"] = registration.cls
    return found
