"""`harness check`: all problems of a benchmark file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from harness.cli.arguments import file_argument, json_option, open_benchmark, set_option
from harness.errors import BenchmarkError, UserError


@click.command()
@file_argument
@set_option
@json_option
def check(file: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check a benchmark file. Nothing is trained and no data is read."""
    from harness.plan.planner import plan

    problems: list[str] = []
    cells = 0
    try:
        benchmark, _ = open_benchmark(file, overrides)
        planned = plan(benchmark.with_located_methods()).cells
        cells = len(planned)
        problems = list(dict.fromkeys(cell.problem for cell in planned if cell.problem))
    except BenchmarkError as error:
        problems = list(error.problems)
    except UserError as error:
        problems = [str(error)]
    if as_json:
        facts = {"file": str(file), "ok": not problems, "problems": problems, "cells": cells}
        click.echo(json.dumps(facts, indent=1))
    elif problems:
        click.echo("\n".join(problems), err=True)
    else:
        click.echo(f"{file}: good; {cells} cells")
    if problems:
        sys.exit(2)
