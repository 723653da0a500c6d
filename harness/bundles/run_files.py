"""The files of a bundle that are made of rows and facts of a run: rows, board, page, benchmark and provenance.

All texts are scrubbed of absolute paths. The same rows and facts give the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.bundles.layout import BENCHMARK, BOARD, EXAMPLES, FORMAT, PROVENANCE, RESULTS, json_text
from harness.bundles.scrubbing import scrub, scrub_text
from harness.leaderboard import board, render
from harness.results.rows import Row, write_rows

if TYPE_CHECKING:
    from harness.api.figure import Figure

_RUN_FACTS = (
    "status",
    "command",
    "device",
    "threads",
    "epochs_trained",
    "epochs_taken_over",
    "tasks_taken_over",
    "stepping",
    "failures",
)
"""The fields of `run.json` that `provenance.json` keeps, under `run`."""

_LOG = "events.jsonl"


_ROW_TEXTS = ("dataset", "architecture", "method", "options", "message", "warning")
"""The columns that may hold an absolute path. The label of a grid's point, `published(path=/home/me/a)`, is one."""


def published_rows(rows: Sequence[Row]) -> list[Row]:
    """Return rows without absolute paths in their labels, options, messages and warnings."""
    scrubbed = []
    for row in rows:
        texts: dict[str, Any] = {name: scrub_text(getattr(row, name)) for name in _ROW_TEXTS}
        scrubbed.append(dataclasses.replace(row, **texts))
    return scrubbed


def board_of(rows: Sequence[Row]) -> str:
    """Return the board of a bundle's rows, `leaderboard.md`. Raise `UserError` for rows that one board cannot hold."""
    return render(board({RESULTS: list(rows)}), "markdown")


def provenance_of(facts: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of `provenance.json` from that of `run.json`: hardware, versions, plugins, git, members.

    `members` are those whose ensembles were measured.
    """
    run = {name: facts[name] for name in _RUN_FACTS if name in facts}
    if isinstance(run.get("command"), list) and run["command"]:
        program, *arguments = run["command"]
        run["command"] = [Path(str(program)).name, *arguments]
    found: dict[str, Any] = scrub({**dict(facts.get("provenance") or {}), "run": run})
    return {"format": FORMAT, **found, "members": list(members)}


def facts_of(benchmark: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `run.json` would hold, from the contents of a bundle's `benchmark.json` and `provenance.json`."""
    run = provenance.get("run")
    own = {name: value for name, value in provenance.items() if name not in ("format", "run", "members")}
    return {
        **(run if isinstance(run, dict) else {}),
        "benchmark": dict(benchmark),
        "provenance": own,
        "members": provenance.get("members") or [],
    }


def run_texts(benchmark: Mapping[str, Any], provenance: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, str]:
    """Return the texts of `benchmark.json`, `provenance.json` and `leaderboard.md` by file."""
    return {BENCHMARK: json_text(benchmark), PROVENANCE: json_text(provenance), BOARD: board_of(rows)}


def page_of(
    folder: Path, facts: Mapping[str, Any], rows: Sequence[Row], figures: Mapping[str, type[Figure]]
) -> tuple[str, tuple[str, ...]]:
    """Return the page of rows and facts, `report.html`, and what could not be drawn.

    `folder` is the run's or the bundle's: the page has the training curves of its `events.jsonl`, if there is one.
    """
    from harness.report import make_figures, make_page, read_run

    with tempfile.TemporaryDirectory(prefix="basin-harness-") as made:
        copy = Path(made, "run")
        copy.mkdir()
        write_rows(copy / RESULTS, rows)
        (copy / "run.json").write_text(json_text(facts), encoding="utf-8")
        if (folder / EXAMPLES).is_file():
            shutil.copyfile(folder / EXAMPLES, copy / EXAMPLES)
        if (folder / _LOG).is_file():
            _copy_scrubbed_log(folder / _LOG, copy / _LOG)
        run = read_run(copy)
        tables = board({RESULTS: run.rows})
        with redirect_stdout(sys.stderr):
            drawn = make_figures(run, tables, figures)
            return make_page(run, tables, drawn), tuple(map(scrub_text, drawn.problems))


def _copy_scrubbed_log(source: Path, target: Path) -> None:
    """Copy an event log without absolute paths, so that its labels are those of the rows. A line that is no event is kept."""
    with source.open("rb") as lines, target.open("wb") as copy:
        for line in lines:
            try:
                copy.write(json.dumps(scrub(json.loads(line))).encode() + b"\n")
            except (ValueError, RecursionError):
                copy.write(line)
