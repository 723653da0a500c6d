"""`harness report`: one HTML page of a run, and its figures as files. Nothing is trained."""

from __future__ import annotations

from pathlib import Path

import click

from harness.files import write_atomically
from harness.leaderboard import board


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Where the page goes; default: DIR/report.html.")
@click.option(
    "--figures", "shelf", metavar="FOLDER", type=click.Path(path_type=Path), help="Also write every figure as PNG, SVG and CSV."
)
def report(folder: Path, out: Path | None, shelf: Path | None) -> None:
    """Make one HTML page of the run in DIR: board, figures, training curves, provenance.

    The page needs no other file and no network. It is made from DIR's results.csv, run.json and events.jsonl alone.
    """
    from harness.report import make_figures, make_page, read_run, write_figures

    run = read_run(folder)
    ours = board({str(folder): run.rows})
    drawn = make_figures(run, ours)
    target = out or folder / "report.html"
    write_atomically(target, make_page(run, ours, drawn))
    click.echo(f"page: {target}")
    if shelf is not None:
        write_figures(drawn, shelf)
        click.echo(f"figures: {len(drawn)} in {shelf}, each as PNG, SVG and CSV")
