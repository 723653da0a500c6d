"""`harness report`: one HTML page of a run, and its figures as files. Trains nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.arguments import open_catalogue
from harness.cli.paths import UserPath
from harness.files import write_atomically
from harness.leaderboard import board

if TYPE_CHECKING:
    from harness.api.figure import Figure
    from harness.registry.catalogue import Catalogue


@click.command()
@click.argument("folder", metavar="DIR", type=UserPath())
@click.option("--out", metavar="FILE", type=UserPath(), help="Where to write the page; default: DIR/report.html.")
@click.option("--figures", metavar="FOLDER", type=UserPath(), help="Also write every figure as PNG, SVG and CSV.")
def report(folder: Path, out: Path | None, figures: Path | None) -> None:
    """Make one HTML page of the run in DIR: board, figures, training curves, provenance.

    The page needs no other file and no network. It is made from DIR's results.csv, run.json and events.jsonl; installed plugins
    draw the figures.
    """
    from harness.report import make_figures, make_page, read_run, write_figures

    run = read_run(folder)
    tables = board({str(folder): run.rows})
    drawn = make_figures(run, tables, figure_plugins(open_catalogue()))
    for problem in drawn.problems:
        click.echo(f"warning: {problem}", err=True)
    target = out or folder / "report.html"
    write_atomically(target, make_page(run, tables, drawn))
    click.echo(f"page: {target}")
    if figures is not None:
        write_figures(drawn.figures, figures)
        click.echo(f"figures: {len(drawn.figures)} in {figures}, each as PNG, SVG and CSV")


def figure_plugins(catalogue: Catalogue) -> dict[str, type[Figure]]:
    """Return the registered figures in order, by the label that messages use."""
    found: dict[str, Any] = {}
    for registration in catalogue.in_order("figure"):
        found[f"figure '{registration.name}' of {registration.source}"] = registration.cls
    return found
