"""A run as one self-contained HTML page: the board, the figures and the provenance of the numbers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from harness.leaderboard import Board, render
from harness.report.figures import DrawnFigures
from harness.report.run import Run, entries, mapping
from harness.text import plain_line, plain_lines

_MAX_RECORDS = 400  # of a figure's data on the page; the CSV file holds longer data


def make_page(run: Run, board: Board, drawn: DrawnFigures) -> str:
    """Return the page. The same files give the same bytes."""
    import jinja2  # imported here so that `harness list` does not import it

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True)
    environment.filters["plain"] = plain_line
    packages = mapping(_provenance(run).get("packages"))
    text = environment.get_template("page.html").render(
        name=_name(run),
        description=str(_benchmark(run).get("description") or ""),
        summary=_summary(board),
        incomplete=run.incomplete,
        board=render(board, "html"),
        sections=_sections(drawn),
        remarks=[*drawn.problems, *_remarks(run)],
        facts=_facts(run),
        packages=sorted((str(name), str(version)) for name, version in packages.items()),
        failures=_failures(run),
        benchmark=_yaml(_benchmark(run)),
    )
    return text.encode("utf-8", "backslashreplace").decode()


def _sections(drawn: DrawnFigures) -> dict[str, list[dict[str, str]]]:
    """Return what the page shows of each figure, by section."""
    sections: dict[str, list[dict[str, str]]] = {}
    for figure in drawn.figures:
        data = figure.csv if len(figure.plot.records) <= _MAX_RECORDS else ""
        shown = {"svg": figure.svg, "title": figure.plot.title, "caption": figure.plot.caption, "csv": plain_lines(data)}
        sections.setdefault(figure.section, []).append(shown)
    return sections


def _benchmark(run: Run) -> Mapping[str, Any]:
    return mapping(mapping(run.facts).get("benchmark"))


def _provenance(run: Run) -> Mapping[str, Any]:
    return mapping(mapping(run.facts).get("provenance"))


def _name(run: Run) -> str:
    """Return the benchmarks of the rows, or else that of `run.json`."""
    named = dict.fromkeys(run.rows["benchmark"])
    return ", ".join(map(str, named)) or str(_benchmark(run).get("name") or "no rows")


def _summary(board: Board) -> str:
    """Return a line about what the board compares."""
    if not board.tables:
        return ""
    datasets: dict[str, None] = {}
    architectures: dict[str, None] = {}
    methods: set[str] = set()
    seeds: set[int] = set()
    sizes: set[int] = set()
    for table in board.tables:
        datasets[table.dataset] = None
        architectures[table.architecture] = None
        seeds.update(table.seeds)
        for method in table.methods:
            methods.add(method.name)
            sizes.add(method.members)
    parts = [", ".join(datasets), ", ".join(architectures), _count(len(methods), "method"), _count(len(seeds), "seed")]
    sizes.discard(0)  # unknown
    if sizes:
        parts.append(f"ensembles of {' or '.join(map(str, sorted(sizes)))}")
    return " · ".join(parts)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _remarks(run: Run) -> list[str]:
    """Return what the page lacks because `events.jsonl` is missing or holds other lines than events."""
    if run.log is None:
        return ["There is no events.jsonl in the folder, so there are no training curves."]
    remarks = []
    if not run.log.trainings:
        remarks.append("Nothing was trained for this run that its events tell of: no training curves.")
    if run.log.unreadable:
        verb = "is" if run.log.unreadable == 1 else "are"
        remarks.append(f"{_count(run.log.unreadable, 'line')} of events.jsonl {verb} no event and left out.")
    return remarks


def _facts(run: Run) -> list[tuple[str, str]]:
    """Return (name, value) of everything known about how the run was made."""
    if run.facts is None:
        return [("run.json", "not in the folder: nothing is known of packages, hardware and benchmark"), *_times(run)]
    provenance = _provenance(run)
    epochs = run.facts.get("epochs_trained")
    trained = ""
    if isinstance(epochs, int | float):
        trained = f"{epochs:g} in the latest run"
    found = {
        "status": run.facts.get("status"),
        "command": _command(run.facts.get("command")),
        "epochs trained": trained,
        **dict(_times(run)),
        "device": _device(run.facts.get("device"), provenance),
        "CUDA": provenance.get("cuda"),
        "processor": _processor(provenance),
        "threads": provenance.get("threads"),
        "git": _commit(mapping(provenance.get("git"))),
        "Python": provenance.get("python"),
        "plugins": _plugins(provenance),
    }
    return [(name, str(value)) for name, value in found.items() if value not in (None, "")]


def _command(command: Any) -> str:
    """Return the command line that started the run, without the folder of its program."""
    if not isinstance(command, list) or not command:
        return ""
    program, *arguments = map(str, command)
    return shlex.join([PurePath(program).name, *arguments])


def _device(device: Any, provenance: Mapping[str, Any]) -> Any:
    return f"{device}: {provenance.get('device')}" if device == "cuda" else device


def _processor(provenance: Mapping[str, Any]) -> str:
    if not provenance.get("processor"):
        return ""
    return f"{provenance['processor']} ({provenance.get('machine')})"


def _plugins(provenance: Mapping[str, Any]) -> str:
    """Return the distributions of the loaded plugins, each with its version and the names of its plugins."""
    names: dict[str, list[str]] = {}
    for plugin in entries(provenance.get("plugins")):
        distribution = f"{plugin.get('distribution')} {plugin.get('version')}".strip()
        names.setdefault(distribution, []).append(str(plugin.get("plugin")))
    return ", ".join(f"{distribution} ({', '.join(plugins)})" for distribution, plugins in names.items())


def _commit(git: Mapping[str, Any]) -> str:
    """Return the commit of the working tree, if it is known."""
    if not git.get("commit"):
        return ""
    if git.get("clean", True):
        return str(git["commit"])
    return f"{git['commit']}, with changes that were not committed"


def _times(run: Run) -> Iterator[tuple[str, str]]:
    """Yield when the runs in this folder began and ended, according to their events."""
    if run.log is not None and run.log.began:
        first = _time(min(run.log.began))
        last = _time(max([*run.log.began, *run.log.ended]))
        yield "time", f"{first} to {last} (UTC), {_count(len(run.log.began), 'run')}"


def _time(seconds: float) -> str:
    """Return a Unix time in UTC, or the number itself if it is out of range."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"


def _failures(run: Run) -> list[tuple[str, str]]:
    """Return (cell, reason) of every failed cell."""
    found = []
    for failure in entries(mapping(run.facts).get("failures")):
        cell = f"{failure.get('dataset')}, {failure.get('architecture')}, {failure.get('method')}, seed {failure.get('seed')}"
        found.append((cell, str(failure.get("message"))))
    return found


def _yaml(benchmark: Mapping[str, Any]) -> str:
    """Return a benchmark as YAML."""
    if not benchmark:
        return ""
    import yaml

    plain_values = json.loads(json.dumps(benchmark))  # without shared values, so that YAML has no anchors
    return plain_lines(yaml.safe_dump(plain_values, allow_unicode=True, sort_keys=False, width=110))
