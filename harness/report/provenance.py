"""What the page tells of how a run was made: command, times, hardware, packages, failures, and the resolved benchmark."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from harness.report.run import Run, entries, mapping
from harness.text import plain_lines


@dataclass(frozen=True)
class Provenance:
    """The provenance of one run: `name` is "" for the only run of a page, `failures` (cell, reason), `benchmark` YAML."""

    name: str
    facts: tuple[tuple[str, str], ...]
    packages: tuple[tuple[str, str], ...]
    failures: tuple[tuple[str, str], ...]
    benchmark: str


def provenance_of(run: Run) -> list[Provenance]:
    """Return the provenance of a run, or of each that it was joined from."""
    named = run.named_parts or {"": run}
    return [_provenance(name, part) for name, part in named.items()]


def benchmark_of(run: Run) -> Mapping[str, Any]:
    """Return the resolved benchmark of a run; empty if it is unknown."""
    return mapping(mapping(run.facts).get("benchmark"))


def count(n: int, noun: str) -> str:
    """Return a number with its noun: `1 run`, `2 runs`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _provenance(name: str, run: Run) -> Provenance:
    versions = mapping(_environment(run).get("packages"))
    packages = sorted((str(package), str(version)) for package, version in versions.items())
    return Provenance(name, tuple(_facts(run)), tuple(packages), tuple(_failures(run)), _yaml(benchmark_of(run)))


def _environment(run: Run) -> Mapping[str, Any]:
    return mapping(mapping(run.facts).get("provenance"))


def _taken_over(facts: Mapping[str, Any]) -> str:
    """Return how many epochs another run on the store trained meanwhile; older files do not say."""
    epochs = facts.get("epochs_taken_over")
    if not isinstance(epochs, int | float) or not epochs:
        return ""
    return f"; {epochs:g} taken over from another run"


def _facts(run: Run) -> list[tuple[str, str]]:
    """Return (name, value) of everything known about how the run was made."""
    if run.facts is None:
        return [("run.json", "not in the folder: nothing is known of packages, hardware and benchmark"), *_times(run)]
    provenance = _environment(run)
    epochs = run.facts.get("epochs_trained")
    trained = ""
    if isinstance(epochs, int | float):
        trained = f"{epochs:g} in the latest run{_taken_over(run.facts)}"
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
        yield "time", f"{first} to {last} (UTC), {count(len(run.log.began), 'run')}"


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
