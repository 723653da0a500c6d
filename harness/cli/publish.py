"""`harness publish`: a bundle of a run that others can check and use."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.arguments import data_option, open_catalogue
from harness.cli.paths import UserPath
from harness.text import escape_unprintable


@click.command()
@click.argument("folder", metavar="DIR", type=UserPath())
@click.option("--to", "target", metavar="FOLDER", type=UserPath(), required=True, help="Where to write the bundle.")
@click.option("--no-members", is_flag=True, help="Leave the weights out: rows, board, page and provenance alone.")
@click.option("--repo", metavar="NAME", help="Then upload FOLDER to this model repository of Hugging Face.")
@click.option(
    "--store",
    metavar="DIR",
    type=UserPath(),
    help="Where the members' weights are stored; default: the store that the run names.",
)
@data_option
def publish(folder: Path, target: Path, no_members: bool, repo: str | None, store: Path | None, data: Path | None) -> None:
    """Write a bundle of the run in DIR to FOLDER: rows, board, page, benchmark, provenance, digests, and the members.

    `harness verify FOLDER` checks it on any machine. The same command again completes a bundle that was cut short. Absolute
    paths are left out of all texts.
    """
    from harness.bundles.publishing import Publication, publish
    from harness.cli.report import figure_plugins
    from harness.runs.places import data_folder
    from harness.runs.run import open_run

    catalogue = open_catalogue()
    publication = Publication(
        run=open_run(folder, store),
        target=target,
        catalogue=catalogue,
        figures=figure_plugins(catalogue),
        data=data_folder(data),
        with_members=not no_members,
        say=lambda line: click.echo(escape_unprintable(line)),
    )
    publish(publication)
    if repo is not None:
        from harness.bundles.hub import upload

        click.echo(f"uploaded to {upload(target, repo)}")
