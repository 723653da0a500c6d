"""Imports point one way. Read from the sources, imports inside functions and for annotations included."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from harness.registry.catalogue import load_catalogue

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "harness"
PLUGINS = ROOT / "plugins"

# From the bottom up: a module imports packages of lower layers, or its own. Annotations count.
LAYERS = [
    ["safe_path", "text"],
    ["early_interrupt"],
    ["errors", "streams"],
    ["files"],
    ["telemetry", "results"],
    ["leaderboard"],
    ["api"],
    ["registry", "networks", "store", "report"],
    ["training", "benchmark"],
    ["plan"],
    ["execution"],
    ["runs"],
    ["cli", "testing"],
]
LEVEL = {package: level for level, layer in enumerate(LAYERS) for package in layer}


def imports(path: Path) -> Iterator[str]:
    """Yield the modules, and the names in them, that a file imports, wherever and for whatever it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(module: str) -> str:
    """Return the package of the core that a module belongs to: `harness.cli.run` is in `cli`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "harness" and len(parts) > 1 else ""


def core_files() -> list[Path]:
    """Return the core's files, but for the public front door."""
    return [path for path in sorted(CORE.rglob("*.py")) if path not in (CORE / "__init__.py", CORE / "__main__.py")]


@pytest.mark.parametrize("path", core_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    """A file imports from its own package and from packages of lower layers."""
    own = path.relative_to(CORE).parts[0].removesuffix(".py")
    assert own in LEVEL, f"{own} has no layer; give it one"
    for module in imports(path):
        other = package_of(module)
        if other != own and other in LEVEL:
            assert LEVEL[other] < LEVEL[own], f"{own} may not import {other}"


def test_no_import_cycle() -> None:
    """The modules of the core import each other in one direction, imports for annotations included."""
    modules = {".".join(("harness", *path.relative_to(CORE).with_suffix("").parts)): path for path in core_files()}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        imported = {name if name in modules else name.rpartition(".")[0] for name in imports(path)}
        graph[module.removesuffix(".__init__")] = imported & modules.keys()
    assert len(graph) > 100
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("path", core_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_core_names_no_plugin(path: Path) -> None:
    """The core imports no plugin, no timm and no torchvision."""
    for module in imports(path):
        assert not module.startswith(("harness_", "timm", "torchvision")), module


NAMED_ON_PURPOSE = {
    "benchmark": (
        "the examples of the JSON schema",
        {"ensemble_accuracy", "cifar10", "resnet20", "deep"},
    ),
    "cli/new_plugin.py": (
        "the template's try.yaml runs on what comes with the distribution",
        {"ensemble_accuracy", "mean_member_accuracy", "joint_connectivity"},
    ),
}
"""File or folder of the core → why its texts name plugins, and which ones."""

CORE_WORDS = {"members", "teacher"}
"""Options of plugins that are the core's own words too: M of a benchmark, and what an objective learns from."""


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every string of a file that is not a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def third_party_names() -> tuple[set[str], set[str]]:
    """Return the registered names, and the names of their options, of all that the core itself does not register."""
    names, options = set(), set()
    for registration in load_catalogue():
        if registration.cls.__module__.split(".")[0] != "harness":
            names.add(registration.name)
            options |= registration.cls.Options.model_fields.keys()
    assert len(names) > 20
    assert len(options) > 10
    return names, options


def plugins_named(text: str, names: set[str]) -> set[str]:
    """Return the names that a text holds: all of it, or as a word that is no English one (`brier_score`, `cifar10`)."""
    words = {word for word in re.findall(r"[\w/]+", text) if re.search(r"[_/\d]", word)}
    return names & {text, *words}


def test_core_texts_name_no_plugin() -> None:
    """No text in the code of the core holds a registered name, or is the name of a plugin's option; the reasons are above."""
    names, options = third_party_names()
    found: dict[str, set[str]] = {}
    for path in core_files():
        place = str(path.relative_to(CORE))
        key = next((known for known in NAMED_ON_PURPOSE if place == known or place.startswith(f"{known}/")), place)
        for _, text in texts(path):
            found.setdefault(key, set()).update(plugins_named(text, names), {text} & (options - CORE_WORDS))
    assert {key: named for key, named in found.items() if named} == {key: named for key, (_, named) in NAMED_ON_PURPOSE.items()}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("brier_score", {"brier_score"}),
        ("rows of brier_score, say", {"brier_score"}),
        ("deep", {"deep"}),
        ("a deep network", set()),
        ("brier_scores", set()),
    ],
)
def test_what_names_a_plugin(text: str, named: set[str]) -> None:
    """English words do so alone, the others anywhere."""
    assert plugins_named(text, {"brier_score", "deep"}) == named


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_plugins_use_public_names_only(path: Path) -> None:
    """A plugin imports `harness` itself, what it exports, its streams, and its own package; never another plugin."""
    own = path.relative_to(PLUGINS).parts[0]
    for module in imports(path):
        if module.startswith("harness_"):
            assert module.split(".")[0] == own, module
        elif module.startswith("harness."):
            name = module.removeprefix("harness.")
            assert name in harness.__all__, f"{module} is not public"


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("leaderboard", {"results", "files", "errors", "text"}),
        ("report", {"leaderboard", "api", "results", "files", "errors", "text"}),
    ],
)
def test_boards_and_reports_stand_alone(package: str, allowed: set[str]) -> None:
    """They read rows, and nothing of how rows are made."""
    for path in sorted((CORE / package).rglob("*.py")):
        packages = {package_of(module) for module in imports(path)} - {""}
        assert packages <= {package, *allowed}, path


@pytest.mark.parametrize(
    "command",
    [["list"], ["--help"], ["list", "--json"], ["leaderboard", "--help"], ["report", "--help"], ["run", "--help"]],
    ids=" ".join,
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
