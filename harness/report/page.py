"""A run as one HTML page that needs nothing else: the board, figures, where the numbers come from."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from harness.leaderboard import Board, render
from harness.report.figures import DrawnFigures
from harness.report.run import Run, entries, mapping
from harness.text import plain_line

_SHOWN_LINES = 400  # a longer table of a figure's data is left to its CSV file


def make_page(run: Run, board: Board, drawn: DrawnFigures) -> str:
    """Return the page. The same files give the same bytes."""
    import jinja2  # here, so that whoever only lists plugins does not pay for it

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True)
    environment.filters["plain"] = plain_line
    text = environment.get_template("page.html").render(
        name=_name(run),
        description=str(_benchmark(run).get("description") or ""),
        summary=_summary(board),
        incomplete=run.incomplete,
        board=render(board, "html"),
        sections=_sections(drawn),
        remarks=[*drawn.problems, *_remarks(run)],
        facts=_facts(run),
        packages=sorted((str(k), str(v)) for k, v in mapping(_provenance(run).get("packages")).items()),
        failures=_failures(run),
        benchmark=_yaml(_benchmark(run)),
    )
    return text.encode("utf-8", "backslashreplace").decode()


def _sections(drawn: DrawnFigures) -> dict[str, list[dict[str, str]]]:
    """Return what the page shows of each figure, by section."""
    sections: dict[str, list[dict[str, str]]] = {}
    for figure in drawn.figures:
        data = figure.csv if len(figure.plot.records) <= _SHOWN_LINES else ""
        shown = {"svg": figure.svg, "title": figure.plot.title, "caption": figure.plot.caption, "csv": _printable(data)}
        sections.setdefault(figure.section, []).append(shown)
    return sections


def _benchmark(run: Run) -> Mapping[str, Any]:
    return mapping(mapping(run.facts).get("benchmark"))


def _provenance(run: Run) -> Mapping[str, Any]:
    return mapping(mapping(run.facts).get("provenance"))


def _name(run: Run) -> str:
    named = list(dict.fromkeys(run.rows["benchmark"]))
    return ", ".join(map(str, named)) or str(_benchmark(run).get("name") or "no rows")


def _summary(board: Board) -> str:
    """Return what was compared in a line."""
    tables = board.tables
    names = [list(dict.fromkeys(x)) for x in ((t.dataset for t in tables), (t.architecture for t in tables))]
    methods = {method.name for table in tables for method in table.methods}
    seeds = {seed for table in tables for seed in table.seeds}
    sizes = sorted({method.members for table in tables for method in table.methods if method.members})
    counts = [_count(len(methods), "method"), _count(len(seeds), "seed")] if tables else []
    of = [f"ensembles of {' or '.join(map(str, sizes))}"] if sizes else []
    return " · ".join([*(", ".join(some) for some in names if some), *counts, *of])


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _remarks(run: Run) -> list[str]:
    """Return what the page lacks because a file is not there or holds more than events."""
    if run.log is None:
        return ["There is no events.jsonl in the folder, so there are no training curves."]
    found = [] if run.log.trainings else ["Nothing was trained for this run that its events tell of: no training curves."]
    n = run.log.unreadable
    return [*found, *([f"{_count(n, 'line')} of events.jsonl {'is' if n == 1 else 'are'} no event and left out."] if n else [])]


def _facts(run: Run) -> list[tuple[str, str]]:
    """Return (what, value) of everything known about how the run was made."""
    if run.facts is None:
        return [("run.json", "not in the folder: nothing is known of packages, hardware and benchmark"), *_times(run)]
    from_ = _provenance(run)
    device, cuda = run.facts.get("device"), from_.get("cuda")
    git = mapping(from_.get("git"))
    clean = "" if git.get("clean", True) else ", with changes that were not committed"
    command = run.facts.get("command")
    words = [str(word) for word in command] if isinstance(command, list) else []
    epochs = run.facts.get("epochs_trained")
    found = {
        "status": run.facts.get("status"),
        "command": shlex.join([PurePath(words[0]).name, *words[1:]]) if words else "",
        "epochs trained": f"{epochs:g} in the latest run" if isinstance(epochs, int | float) else "",
        **dict(_times(run)),
        "device": f"{device}: {from_.get('device')}" if device == "cuda" else device,
        "CUDA": cuda,
        "processor": f"{from_.get('processor')} ({from_.get('machine')})" if from_.get("processor") else "",
        "threads": from_.get("threads"),
        "git": f"{git['commit']}{clean}" if git.get("commit") else "",
        "Python": from_.get("python"),
    }
    return [(what, str(value)) for what, value in found.items() if value not in (None, "")]


def _times(run: Run) -> Iterator[tuple[str, str]]:
    """Yield when the runs on this folder were, as far as events tell."""
    if run.log is not None and run.log.began:
        first, last = _moment(min(run.log.began)), _moment(max([*run.log.began, *run.log.ended]))
        yield "time", f"{first} to {last} (UTC), {_count(len(run.log.began), 'run')}"


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"


def _failures(run: Run) -> list[tuple[str, str]]:
    """Return (cell, reason) of every cell that failed."""
    found = []
    for failure in entries(mapping(run.facts).get("failures")):
        names = (failure.get(part) for part in ("dataset", "architecture", "method"))
        found.append((f"{', '.join(map(str, names))}, seed {failure.get('seed')}", str(failure.get("message"))))
    return found


def _yaml(benchmark: Mapping[str, Any]) -> str:
    """Return a benchmark as YAML, the language its authors read it in."""
    if not benchmark:
        return ""
    import yaml

    plain_values = json.loads(json.dumps(benchmark))  # no shared parts, so no anchors
    return _printable(yaml.safe_dump(plain_values, allow_unicode=True, sort_keys=False, width=110))


def _printable(text: str) -> str:
    """Return text of several lines with what could steer the reader (control characters, direction marks) replaced."""
    steering = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return re.sub(r"[^\n -~]", lambda c: "\ufffd" if unicodedata.category(c[0]) in steering else c[0], text)
