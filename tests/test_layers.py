"""The house's directions: who may import whom. Read from the sources, imports inside functions included."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "harness"
PLUGINS = ROOT / "plugins"

# From the ground floor up: a module may import what stands on a lower floor, or, within a room, its own room.
FLOORS = [
    ["errors", "task", "stopwatch", "profile"],
    ["hookspecs", "streams", "provenance", "blame", "device"],
    ["weights", "ensemble", "results", "events"],
    ["interfaces"],
    ["recipe", "discovery", "store"],
    ["trajectory", "catalogue", "leaderboard"],
    ["training", "evaluation", "benchmark", "report"],
    ["graph", "guard"],
    ["room"],
    ["continuation"],
    ["worker"],
    ["engines"],
    ["runner"],
    ["cli", "testing"],
]
HEIGHT = {room: height for height, floor in enumerate(FLOORS) for room in floor}


def imports(path: Path, *, types: bool = False) -> Iterator[str]:
    """Yield the modules that a file imports, without those that are only for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not types:
            skipped.update(inner for statement in node.body for inner in ast.walk(statement))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module: str) -> str:
    """Return the room of the core that a module belongs to: `harness.cli.run` is in `cli`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def core_files() -> list[Path]:
    """Return the core's files, but for the public front door."""
    return [path for path in sorted(CORE.rglob("*.py")) if path not in (CORE / "__init__.py", CORE / "__main__.py")]


@pytest.mark.parametrize("path", core_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    """No file of the core imports from its own floor's other rooms or from above."""
    own = path.relative_to(CORE).parts[0].removesuffix(".py")
    assert own in HEIGHT, f"{own} has no floor; give it one"
    for module in imports(path):
        if module == "harness" or module.startswith("harness."):
            other = room(module)
            if other != own and other in HEIGHT:
                assert HEIGHT[other] < HEIGHT[own], f"{own} may not import {other}"


@pytest.mark.parametrize("path", core_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_core_names_no_plugin(path: Path) -> None:
    """The core imports no plugin, no timm and no torchvision."""
    for module in imports(path, types=True):
        assert not module.startswith(("harness_", "timm", "torchvision")), module


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_plugins_use_public_names_only(path: Path) -> None:
    """A plugin imports `harness` itself, what it exports, its streams, and its own package; never another plugin."""
    own = path.relative_to(PLUGINS).parts[0]
    for module in imports(path, types=True):
        if module.startswith("harness_"):
            assert module.split(".")[0] == own, module
        elif module.startswith("harness."):
            name = module.removeprefix("harness.")
            assert name in harness.__all__, f"{module} is not public"


@pytest.mark.parametrize("package", ["benchmark"])
def test_no_import_cycle(package: str) -> None:
    """The modules of a package import each other in one direction, imports for annotations included."""
    graph: dict[str, set[str]] = {}
    for path in sorted((CORE / package).glob("*.py")):
        module = f"harness.{package}.{path.stem}"
        graph[module] = {name.rpartition(".")[0] for name in imports(path, types=True)}
    assert graph
    graphlib.TopologicalSorter(graph).prepare()


def test_results_and_boards_stand_alone() -> None:
    """Leaderboard and report read rows: they import results and errors and nothing else of the core."""
    for name in ("leaderboard", "report"):
        for path in sorted(CORE.glob(f"{name}*")):
            for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
                rooms = {room(module) for module in imports(file) if module.startswith("harness.")}
                assert rooms <= {"results", "errors", "leaderboard", name}, file


@pytest.mark.parametrize(
    "command", [["list"], ["--help"], ["list", "--json"], ["leaderboard", "--help"], ["run", "--help"]], ids=" ".join
)
def test_light_commands_do_not_import_torch(command: list[str]) -> None:
    """Listing and help load neither torch nor timm nor pandas."""
    code = (
        "import sys\nfrom harness.cli import cli\n"
        f"try: cli.main({command!r}, standalone_mode=False)\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'timm', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_public_names_exist() -> None:
    """`__all__` is sorted, whole and true."""
    assert list(harness.__all__) == sorted(harness.__all__)
    assert all(hasattr(harness, name) for name in harness.__all__)
