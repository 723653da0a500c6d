"""Which code a process runs: Python, torch, the harness and every plugin, with digests of their sources.

A worker compares its own with that of the run it works for, wherever an engine has started it. Knows no engine.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.errors import HarnessError
from harness.registry.discovery import installed_plugins

_SUFFIXES = (".py", *EXTENSION_SUFFIXES)
_NEXT_STEP = (
    "install what the run uses where workers find it (a folder that only a script or `python -m` puts on sys.path belongs on "
    "PYTHONPATH), and run the same command again: it goes on"
)


class OtherCode(HarnessError):
    """A worker that runs other code than the run it works for."""


@dataclass(frozen=True)
class PluginVersion:
    """The code behind one entry point.

    `distribution` is name and version, `location` the package's folder or the module's file, `digest` covers its sources, and
    `problem` says why it could not be loaded ("" if it was).
    """

    plugin: str
    distribution: str
    location: str
    digest: str
    problem: str = ""

    def describe(self) -> str:
        """Return distribution, version and place, for a message."""
        return f"{self.distribution} from {self.location or 'an unknown place'}"


@dataclass(frozen=True)
class CodeVersion:
    """The code that a process runs. Two processes with equal values compute the same.

    `harness` is the harness itself, in the form of a plugin. Locations differ between machines and are not compared: the
    digests of what lies there are.
    """

    python: str
    executable: str
    torch: str
    harness: PluginVersion
    plugins: tuple[PluginVersion, ...]

    def to_json(self) -> str:
        """Return it as JSON, on one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> CodeVersion:
        """Return what `to_json` has written; raise `OtherCode` if it is something else."""
        try:
            fields = json.loads(text)
            fields["harness"] = PluginVersion(**fields["harness"])
            fields["plugins"] = tuple(PluginVersion(**plugin) for plugin in fields["plugins"])
            return cls(**fields)
        except (ValueError, KeyError, TypeError) as error:
            reason = f"the run's code version is not readable ({error}): the run uses another harness than {_here()}"
            raise OtherCode(f"{reason}; {_NEXT_STEP}") from None


def current_code_version(problems: Iterable[str] = ()) -> CodeVersion:
    """Return the version of the code that this process runs, from the files as they lie there now.

    `problems` are the catalogue's lines about plugins that could not be loaded. Imports no torch and no plugin.
    """
    lines = tuple(problems)
    _digest_of.cache_clear()
    plugins = []
    for point, source in installed_plugins():
        location, digest = _sources(point.module)
        problem = next((line for line in lines if line.startswith(f"{source} ")), "")
        plugins.append(PluginVersion(source.plugin, source.distribution, location, digest, problem))
    location, digest = _sources("harness")
    harness = PluginVersion("harness", f"basin-harness {_version('basin-harness')}", location, digest)
    return CodeVersion(sys.version.split()[0], sys.executable, _version("torch"), harness, tuple(plugins))


def require_same_code(run: CodeVersion, worker: CodeVersion) -> None:
    """Raise `OtherCode` if a worker runs other code than the run it works for."""
    difference = code_difference(run, worker)
    if difference:
        raise OtherCode(f"a worker process runs other code than the run: {difference}; {_NEXT_STEP}")


def code_difference(run: CodeVersion, worker: CodeVersion) -> str:
    """Return the first difference between two code versions as part of a line that names both sides, or ""."""
    if run.python != worker.python:
        return f"the run uses Python {run.python} ({run.executable}), the worker Python {worker.python} ({worker.executable})"
    if run.torch != worker.torch:
        return f"the run uses torch {run.torch} ({run.executable}), the worker torch {worker.torch} ({worker.executable})"
    return _plugin_difference(run.harness, worker.harness, "the harness") or _plugins_difference(run.plugins, worker.plugins)


def _plugins_difference(run: Sequence[PluginVersion], worker: Sequence[PluginVersion]) -> str:
    ours = {plugin.plugin: plugin for plugin in run}
    theirs = {plugin.plugin: plugin for plugin in worker}
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in theirs:
            return f"plugin '{name}': the run uses {ours[name].describe()}, the worker does not find it"
        if name not in ours:
            return f"plugin '{name}': the worker finds {theirs[name].describe()}, the run does not"
        difference = _plugin_difference(ours[name], theirs[name], f"plugin '{name}'")
        if difference:
            return difference
    return ""


def _plugin_difference(run: PluginVersion, worker: PluginVersion, name: str) -> str:
    if bool(run.problem) != bool(worker.problem):
        loads, fails = ("the worker", "the run") if run.problem else ("the run", "the worker")
        usable = worker if run.problem else run
        return f"{name}: {loads} uses {usable.describe()}, {fails} cannot load it ({run.problem or worker.problem})"
    if (run.distribution, run.digest) == (worker.distribution, worker.digest):
        return ""
    same_place = (run.distribution, run.location) == (worker.distribution, worker.location)
    changed = ", whose sources have changed since the run began" if same_place else ""
    sides = f"{name}: the run uses {run.describe()} (sources {run.digest[:12]}), the worker {worker.describe()}"
    return f"{sides} (sources {worker.digest[:12]}){changed}"


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _here() -> str:
    return f"basin-harness {_version('basin-harness')} from {Path(__file__).parent}"


def _sources(module: str) -> tuple[str, str]:
    """Return where the outermost regular package (or the module) of a module's name lies, and the digest of its sources.

    Both are "" if it is not found.
    """
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        spec = _spec(".".join(parts[:count]))
        if spec is None:
            return "", ""
        if spec.origin is not None:  # a namespace package has none: it belongs to several distributions
            folder = Path(spec.origin).parent
            location = folder if spec.submodule_search_locations is not None else Path(spec.origin)
            return str(location), _digest_of(location)
    return "", ""


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None


@cache
def _digest_of(location: Path) -> str:
    """Return the digest of a module's file, or of the Python files and extension modules in a package's folder."""
    whole = hashlib.sha256()
    for path in _source_files(location):
        try:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            content = "unreadable"
        name = path.relative_to(location).as_posix() if path != location else path.name
        whole.update(f"{name} {content}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _source_files(location: Path) -> list[Path]:
    if not location.is_dir():
        return [location]
    found = []
    for path in location.rglob("*"):
        if path.name.endswith(_SUFFIXES) and path.is_file():
            found.append(path)
    return sorted(found)
