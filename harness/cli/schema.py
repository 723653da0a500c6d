"""`harness schema`: the JSON Schema of benchmark files, for editors."""

from __future__ import annotations

import json

import click

from harness.cli.arguments import open_catalogue


@click.command()
def schema() -> None:
    """Print the JSON Schema of benchmark files, with the installed plugins' names and options."""
    from harness.benchmark import json_schema

    click.echo(json.dumps(json_schema(open_catalogue()), indent=1))
