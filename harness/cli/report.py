"""`harness report`: one HTML page of one or several runs, and their figures as files. Trains nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.arguments import open_catalogue
from harness.cli.paths import UserPath
from harness.errors import UserError
from harness.files import write_atomically
from harness.leaderboard import board
from harness.results.bundle_mark import is_bundle
from harness.text import single_line

if TYPE_CHECKING:
    from harness.api.figure import Figure
    from harness.comparison import TableComparison
    from harness.registry.catalogue import Catalogue
    from harness.report import PrintStyle


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=UserPath())
@click.option("--out", metavar="FILE", type=UserPath(), help="Where to write the page; default: report.html in the first DIR.")
@click.option("--letters", is_flag=True, help="Mark all groups that cannot be told apart with letters, from six seeds on.")
@click.option(
    "--figures", metavar="FOLDER", type=UserPath(), help="Also write every figure as a file, by default PNG, SVG and CSV."
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["pdf", "svg", "png"]),
    help="With --figures: the format of the files; may be given several times.",
)
@click.option(
    "--width", metavar="WIDTH", help="With --figures: the width, such as 3.25in, 82mm or 234pt; default: each figure's own."
)
@click.option(
    "--font", metavar="FAMILY", help="With --figures: serif, sans-serif, monospace, or an installed font; default: sans-serif."
)
def report(
    folders: tuple[Path, ...],
    out: Path | None,
    letters: bool,
    figures: Path | None,
    formats: tuple[str, ...],
    width: str | None,
    font: str | None,
) -> None:
    """Make one HTML page of the runs in DIR...: board, differences, figures, training curves, provenance.

    The page needs no other file and no network. It is made from each DIR's results.csv, run.json, events.jsonl and
    examples.npz; installed plugins draw the figures. The rows of several runs make one board.
    """
    from harness.report import DEFAULT_FORMATS, make_figures, make_page, read_runs, write_figures

    if figures is None:
        _require_figures({"--format": formats, "--width": width, "--font": font})
    print_style = _print_style(width, font)
    run = read_runs(folders)
    target = out or _default_page(run.folder)
    tables = board(run.frames, letters=letters)
    comparisons, problems = _comparisons(folders)
    drawn = make_figures(run, tables, figure_plugins(open_catalogue()))
    drawn = replace(drawn, problems=(*problems, *drawn.problems))
    for problem in drawn.problems:
        click.echo(f"warning: {problem}", err=True)
    write_atomically(target, make_page(run, tables, drawn, comparisons))
    click.echo(f"page: {target}")
    if figures is not None:
        chosen = tuple(dict.fromkeys(formats)) or DEFAULT_FORMATS
        write_figures(drawn.figures, figures, chosen, print_style)
        click.echo(f"figures: {len(drawn.figures)} in {figures}, each as {_listed(chosen)}")


def _default_page(folder: Path) -> Path:
    """Return the page of a run's folder. Raise `UserError` if it is a bundle, whose page has a digest."""
    if is_bundle(folder):
        raise UserError(
            f"{folder}: is a published bundle, whose report.html must not change; name the new page with --out FILE"
        )
    return folder / "report.html"


def _require_figures(options: Mapping[str, object]) -> None:
    """Raise `UserError` for an option that has no effect without `--figures`."""
    for name, value in options.items():
        if value:
            raise UserError(f"{name}: it is for figures as files; add --figures FOLDER")


def _print_style(width: str | None, font: str | None) -> PrintStyle:
    """Return how figures are printed. Raise `UserError` for a bad width or font."""
    from harness.report import PrintStyle, check_font, parse_width

    inches = None if width is None else parse_width(width)
    family = "" if font is None else check_font(font)
    return PrintStyle(inches, family)


def _listed(formats: Sequence[str]) -> str:
    """Return the formats as a part of a sentence: PNG, SVG and CSV."""
    *others, last = [name.upper() for name in formats]
    if not others:
        return last
    return f"{', '.join(others)} and {last}"


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
