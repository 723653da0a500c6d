"""The code that a process runs: Python, torch, the harness and all plugins, with digests of their sources.

A worker process compares its own code version with that of the run, and refuses to work if they differ.
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
from harness.registry.discovery import Source, installed_plugins

_SUFFIXES = (".py", *EXTENSION_SUFFIXES)
_NEXT_STEP = (
    "install what the run uses where workers find it (a folder that only a script or `python -m` puts on sys.path belongs on "
    "PYTHONPATH), and run the same command again: it goes on"
)


class OtherCode(HarnessError):
    """A worker process does not run the same code as its run."""


@dataclass(frozen=True)
class PluginVersion:
    """The code of one plugin.

    `plugin` is the name of the entry point. `distribution` is the name and version of the distribution. `location` is the
    folder of the package or the file of the module. `digest` is the hash of the sources there. `problem` says why the plugin
    could not be loaded; "" if it was loaded.
    """

    plugin: str
    distribution: str
    location: str
    digest: str
    problem: str = ""

    def describe(self) -> str:
        """Return the distribution, its version and the location, for a message."""
        return f"{self.distribution} from {self.location or 'an unknown place'}"


@dataclass(frozen=True)
class CodeVersion:
    """The code that a process runs. Processes with equal code versions compute the same results.

    `harness` describes the harness itself, like a plugin. Locations may differ between machines; they are not compared.
    """

    python: str
    executable: str
    torch: str
    harness: PluginVersion
    plugins: tuple[PluginVersion, ...]

    def to_json(self) -> str:
        """Return the code version as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> CodeVersion:
        """Return a code version from the JSON of `to_json`; raise `OtherCode` if it cannot be read."""
        try:
            fields = json.loads(text)
            fields["harness"] = PluginVersion(**fields["harness"])
            fields["plugins"] = tuple(PluginVersion(**plugin) for plugin in fields["plugins"])
            return cls(**fields)
        except (ValueError, KeyError, TypeError) as error:
            own = f"basin-harness {_version('basin-harness')} from {Path(__file__).parent}"
            reason = f"the run's code version is not readable ({error}): the run uses another harness than {own}"
            raise OtherCode(f"{reason}; {_NEXT_STEP}") from None


def current_code_version(problems: Iterable[str] = ()) -> CodeVersion:
    """Return the code version of this process, with digests of the source files as they are now.

    `problems` are the catalogue's lines about plugins that could not be loaded. Imports no torch and no plugin.
    """
    lines = tuple(problems)
    _digest_of.cache_clear()
    plugins = []
    for point, source in installed_plugins():
        location, digest = _sources(point.module)
        problem = _problem_of(source, lines)
        plugins.append(PluginVersion(source.plugin, source.distribution, location, digest, problem))
    location, digest = _sources("harness")
    harness = PluginVersion("harness", f"basin-harness {_version('basin-harness')}", location, digest)
    return CodeVersion(sys.version.split()[0], sys.executable, _version("torch"), harness, tuple(plugins))


def _problem_of(source: Source, lines: Iterable[str]) -> str:
    """Return the line about a plugin, or ""."""
    for line in lines:
        if line.startswith(f"{source} "):
            return line
    return ""


def require_same_code(run: CodeVersion, worker: CodeVersion) -> None:
    """Raise `OtherCode` if a worker does not run the same code as its run."""
    difference = code_difference(run, worker)
    if difference:
        raise OtherCode(f"a worker process runs other code than the run: {difference}; {_NEXT_STEP}")


def code_difference(run: CodeVersion, worker: CodeVersion) -> str:
    """Return the first difference between two code versions, with the versions of both sides; "" if they are equal."""
    if run.python != worker.python:
        return f"the run uses Python {run.python} ({run.executable}), the worker Python {worker.python} ({worker.executable})"
    if run.torch != worker.torch:
        return f"the run uses torch {run.torch} ({run.executable}), the worker torch {worker.torch} ({worker.executable})"
    difference = _plugin_difference(run.harness, worker.harness, "the harness")
    if difference:
        return difference
    return _plugins_difference(run.plugins, worker.plugins)


def _plugins_difference(run: Sequence[PluginVersion], worker: Sequence[PluginVersion]) -> str:
    of_run = {plugin.plugin: plugin for plugin in run}
    of_worker = {plugin.plugin: plugin for plugin in worker}
    for name in sorted(of_run.keys() | of_worker.keys()):
        if name not in of_worker:
            return f"plugin '{name}': the run uses {of_run[name].describe()}, the worker does not find it"
        if name not in of_run:
            return f"plugin '{name}': the worker finds {of_worker[name].describe()}, the run does not"
        difference = _plugin_difference(of_run[name], of_worker[name], f"plugin '{name}'")
        if difference:
            return difference
    return ""


def _plugin_difference(run: PluginVersion, worker: PluginVersion, name: str) -> str:
    if run.problem and not worker.problem:
        return f"{name}: the worker uses {worker.describe()}, the run cannot load it ({run.problem})"
    if worker.problem and not run.problem:
        return f"{name}: the run uses {run.describe()}, the worker cannot load it ({worker.problem})"
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


def _sources(module: str) -> tuple[str, str]:
    """Return the location of a module's outermost regular package, or of the module itself, and the digest of its sources.

    Both are "" if the module is not found.
    """
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        spec = _spec(".".join(parts[:count]))
        if spec is None:
            return "", ""
        if spec.origin is not None:  # a namespace package, which may belong to several distributions, has no origin
            location = Path(spec.origin)
            is_package = spec.submodule_search_locations is not None
            if is_package:
                location = location.parent
            return str(location), _digest_of(location)
    return "", ""


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None


@cache
def _digest_of(location: Path) -> str:
    """Return the digest of a module's file, or of the Python files and extension modules in the folder of a package."""
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
