"""The command line: parse, call, print. One file per subcommand, which is imported when the subcommand is used."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import click

from harness.cli.standard_streams import discard, raised_by_printing, repair_standard_streams
from harness.errors import BenchmarkError, HarnessError, UserError
from harness.text import escape_unprintable

COMMANDS = {
    "run": "run",
    "plan": "plan",
    "check": "check",
    "list": "list_plugins",
    "leaderboard": "leaderboard",
    "compare": "compare",
    "report": "report",
    "members": "members",
    "publish": "publish",
    "verify": "verify",
    "explain": "explain",
    "diff": "diff",
    "store": "store",
    "worker": "worker",
    "doctor": "doctor",
    "schema": "schema",
    "new-plugin": "new_plugin",
}
"""Subcommand → the module of this package that defines it, under the module's name."""

_HELP_WANTED: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What click raises for no command at all. Before version 8.2 it prints the help and exits instead."""


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is used, so that `--help` and `list` do not import torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the subcommands, the most used ones first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        if cmd_name not in COMMANDS:
            return None
        module = COMMANDS[cmd_name]
        return getattr(importlib.import_module(f"harness.cli.{module}"), module)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand. If nobody reads its output any more (`| head`), exit with 141 and without a message."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            discard(1)
            discard(2)
            sys.exit(141)
        except OSError as error:
            if not raised_by_printing(error):
                raise
            discard(1)
            raise UserError(f"standard output cannot be written: {error.strerror or error}") from None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="basin-harness", prog_name="harness")
def cli() -> None:
    """Compare ensembles in weight space: ensemble accuracy and linear connectivity, method by method.

    `harness run benchmarks/quickstart.yaml` is a first run, which takes about two minutes on two CPU cores.
    """


def main() -> None:
    """Run the command line. A user's mistake gives one line and exit code 2."""
    repair_standard_streams()
    try:
        _check_working_folder()
        cli.main(prog_name="harness", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except _HELP_WANTED as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"error: {escape_unprintable(_usage_line(error))}", err=True)
        sys.exit(2)
    except UserError as error:
        click.echo(f"error: {_printable(error)}", err=True)
        sys.exit(2)
    except HarnessError as error:
        click.echo(f"error: {_printable(error)}", err=True)
        sys.exit(1)


def _usage_line(error: click.ClickException) -> str:
    """Return click's message about options and arguments as one line like ours, with the help to look at."""
    message = " ".join(error.format_message().split()).removesuffix(".").replace(". (", " (")
    message = re.sub(r"^Invalid value for '([^']+)': ", r"\1: ", message)
    message = message.replace("is not a valid integer range", "is not an integer")
    if not message.startswith("-") and not message[:2].isupper():
        message = message[:1].lower() + message[1:]
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return message
    return f"{message}; `{context.command_path} --help` says what is allowed"


def _printable(error: HarnessError) -> str:
    """Return an error's message on one line, or each problem of a file on one. It may quote names in files of others."""
    lines = error.problems if isinstance(error, BenchmarkError) else (str(error),)
    return "\n".join(map(escape_unprintable, lines))


def _check_working_folder() -> None:
    """Raise `UserError` in a folder that was removed: relative paths mean nothing there, and torch cannot be imported."""
    try:
        Path.cwd()
    except OSError as error:
        raise UserError(f"the working folder cannot be used: {error.strerror or error}; change to one that is there") from None
