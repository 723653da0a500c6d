"""`harness worker`: do one task, or a group of siblings, against a store. What every engine runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from harness.cli.arguments import data_folder, data_option, json_option, open_catalogue, store_folder, store_option
from harness.cli.stopping import Stopper
from harness.errors import Interrupted, UserError


@click.command()
@click.option("--task", "tasks", metavar="KEY", multiple=True, help="A task's key; several make a group of siblings.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read keys from standard input, a group on each line, until it ends.")
@store_option
@data_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, or cuda:INDEX.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 1024), help="CPU threads of a task.")
@json_option
def worker(
    tasks: tuple[str, ...], from_stdin: bool, store: Path | None, data: Path | None, device: str, threads: int, as_json: bool
) -> None:
    """Do the tasks that `harness run` has written into the store; one line of it reproduces any task."""
    from harness.interfaces import Session
    from harness.runner import task_from_json
    from harness.store import Store
    from harness.worker import Worker

    if not tasks and not from_stdin:
        raise UserError("no task given; name one with --task KEY, or send keys with --stdin")

    def emit(event: dict[str, Any]) -> None:
        click.echo(json.dumps(event, default=str) if as_json else _line(event))
        sys.stdout.flush()

    folder = store_folder(store)
    shelf = Store(folder)
    all_done, parent = True, os.getppid()
    with Stopper(quiet=from_stdin) as stopper:

        def stopping() -> bool:
            """Also when the process that gives the work has died: nobody is left to read what comes out."""
            return stopper.stopping() or (from_stdin and os.getppid() != parent)

        session = Session(open_catalogue(), folder, data_folder(data), device, emit, stopping, threads)
        workman = Worker(session)
        try:
            for keys in _lines(stopper) if from_stdin else [tasks]:
                group = [task_from_json(shelf.read_task(shelf.resolve(key))) for key in keys]
                for outcome in workman.run(group):
                    emit({"event": "outcome", **asdict(outcome)})
                    all_done &= outcome.status == "done"
        except Interrupted:
            sys.exit(stopper.exit_code)
    sys.exit(0 if all_done or from_stdin else 1)


def _lines(stopper: Stopper) -> Iterator[list[str]]:
    for line in sys.stdin:
        yield line.split()
        if stopper.stopping():
            raise Interrupted


def _line(event: dict[str, Any]) -> str:
    facts = " ".join(f"{k}={v}" for k, v in event.items() if k not in ("event", "time") and v not in ("", None))
    return f"{event['event']}: {facts}"
