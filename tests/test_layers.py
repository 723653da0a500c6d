"""Imports between packages point one way. All imports of the sources count, also in functions and for annotations."""

from __future__ import annotations

import ast
import graphlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from harness import Recipe
from harness.registry.catalogue import load_catalogue

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "harness"
PLUGINS = ROOT / "plugins"

# From the bottom up: a module imports from packages of lower layers, or from its own package.
LAYERS = [
    ["startup", "text", "statistics"],
    ["errors", "streams"],
    ["files"],
    ["telemetry", "results", "kernels"],
    ["leaderboard"],
    ["api", "comparison"],
    ["registry", "networks", "store", "report"],
    ["training", "benchmark"],
    ["plan"],
    ["execution"],
    ["runs"],
    ["bundles"],
    ["cli", "testing"],
]
LEVEL = {package: level for level, layer in enumerate(LAYERS) for package in layer}


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, and every name that it imports from a module, with that module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def package_of(module: str) -> str:
    """Return the package of the core that a module belongs to: `harness.cli.run` is in `cli`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "harness" and len(parts) > 1 else ""


def core_files() -> list[Path]:
    """Return the core's files, except the package's `__init__` and `__main__`."""
    entry_points = (CORE / "__init__.py", CORE / "__main__.py")
    return [path for path in sorted(CORE.rglob("*.py")) if path not in entry_points]


def module_name(path: Path) -> str:
    """Return the dotted name of a file of the core: `harness.cli.run`, or `harness.cli` for a package."""
    name = ".".join(("harness", *path.relative_to(CORE).with_suffix("").parts))
    return name.removesuffix(".__init__")


@pytest.mark.parametrize("path", core_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    """A file imports from its own package and from packages of lower layers only."""
    own = path.relative_to(CORE).parts[0].removesuffix(".py")
    assert own in LEVEL, f"{own} has no layer; give it one"
    for module in imports(path):
        other = package_of(module)
        if other != own and other in LEVEL:
            assert LEVEL[other] < LEVEL[own], f"{own} may not import {other}"


def test_no_import_cycle() -> None:
    """No module of the core imports itself through others."""
    modules = {module_name(path): path for path in core_files()}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        graph[module] = set()
        for name in imports(path):
            imported = name if name in modules else name.rpartition(".")[0]
            if imported in modules:
                graph[module].add(imported)
    assert len(graph) > 100
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("path", core_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_core_names_no_plugin(path: Path) -> None:
    """The core imports neither a plugin nor timm nor torchvision."""
    for module in imports(path):
        assert not module.startswith(("harness_", "timm", "torchvision")), module


NAMED_ON_PURPOSE = {
    "benchmark": (
        "the examples of the JSON schema",
        {"ensemble_accuracy", "cifar10", "resnet20", "deep"},
    ),
    "leaderboard": (
        "the board of published numbers, beside which a method has the same name",
        {"published"},
    ),
    "cli/new_plugin.py": (
        "the template's try.yaml runs on what comes with the distribution",
        {"ensemble_accuracy", "mean_member_accuracy", "joint_connectivity"},
    ),
}
"""By file or folder of the core: why its strings name plugins, and which ones."""

CORE_WORDS = {"members", "teacher", "task_timeout", "correction", "none", "path", "center", *Recipe.model_fields}
"""Names and options of plugins that are also words of the core: `members`, an objective's `teacher`, `task_timeout` of
`harness run`, the kind `correction`, `none`, `path`, the `center` of texts in figures, and the fields of the recipe."""


def strings(path: Path) -> Iterator[str]:
    """Yield every string of a file that is not a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def third_party_names() -> tuple[set[str], set[str]]:
    """Return the names and the option names of all plugins that are not in the core."""
    names = set()
    options = set()
    for registration in load_catalogue():
        if registration.cls.__module__.split(".")[0] != "harness":
            names.add(registration.name)
            options |= registration.cls.Options.model_fields.keys()
    assert len(names) > 20
    assert len(options) > 10
    return names, options


def plugins_named(text: str, names: set[str]) -> set[str]:
    """Return the names in a string: the whole string, or a word with `_`, `/` or a digit (`brier_score`, `cifar10`)."""
    words = {word for word in re.findall(r"[\w/]+", text) if re.search(r"[_/\d]", word)}
    return names & {text, *words}


def listed_place(path: Path) -> str:
    """Return the entry of `NAMED_ON_PURPOSE` that covers a file of the core, or the file's own path."""
    place = str(path.relative_to(CORE))
    for listed in NAMED_ON_PURPOSE:
        if place == listed or place.startswith(f"{listed}/"):
            return listed
    return place


def test_strings_of_the_core_name_no_plugin() -> None:
    """No string of the core contains a registered name or equals an option of a plugin, except those listed above."""
    names, options = third_party_names()
    found: dict[str, set[str]] = {}
    for path in core_files():
        named = set()
        for text in strings(path):
            named |= plugins_named(text, names - CORE_WORDS)
            named |= {text} & (options - CORE_WORDS)
        if named:
            found.setdefault(listed_place(path), set()).update(named)
    assert found == {place: named for place, (_, named) in NAMED_ON_PURPOSE.items()}


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
def test_string_that_names_a_plugin(text: str, named: set[str]) -> None:
    """An English word counts only as the whole string, any other name as a word of the string."""
    assert plugins_named(text, {"brier_score", "deep"}) == named


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_plugins_use_public_names_only(path: Path) -> None:
    """A plugin imports `harness`, its public names, and its own package, but no other plugin."""
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
        ("leaderboard", {"results", "files", "errors", "text", "statistics"}),
        ("report", {"comparison", "leaderboard", "api", "results", "files", "errors", "text"}),
        ("comparison", {"leaderboard", "results", "files", "errors", "text", "statistics"}),
    ],
)
def test_boards_and_reports_depend_on_rows_only(package: str, allowed: set[str]) -> None:
    """They import nothing that makes rows."""
    for path in sorted((CORE / package).rglob("*.py")):
        packages = {package_of(module) for module in imports(path)} - {""}
        assert packages <= {package, *allowed}, path


@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["--help"],
        ["list", "--json"],
        ["leaderboard", "--help"],
        ["report", "--help"],
        ["run", "--help"],
        ["check", "benchmarks/paper.yaml"],
        ["plan", "benchmarks/paper.yaml"],
        ["plan", "benchmarks/quickstart.yaml", "--workers", "4", "--store", "tests"],
        ["plan", "benchmarks/figures.yaml", "--set", "recipe.precision=auto", "--json"],
        ["schema"],
        ["explain", "0123456789"],
    ],
    ids=" ".join,
)
def test_light_commands_do_not_import_torch(command: list[str]) -> None:
    """Lists, help, checks, plans and explanations import neither torch nor another large library."""
    code = (
        "import sys\nfrom harness.cli import cli\n"
        "from harness.errors import StoreError\n"
        f"try: cli.main({command!r}, standalone_mode=False)\nexcept (SystemExit, StoreError): pass\n"
        "heavy = {'torch', 'torchvision', 'timm', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize("command", ["leaderboard", "report"])
def test_boards_and_reports_do_not_import_torch(command: str, tmp_path: Path) -> None:
    """They read rows, with pandas, and draw, with Matplotlib; neither needs torch."""
    shutil.copy(ROOT / "benchmarks" / "results" / "cifar10_cpu" / "results.csv", tmp_path)
    code = (
        "import sys\nfrom harness.cli import cli\n"
        "cli.main(sys.argv[1:], standalone_mode=False)\n"
        "sys.exit('imported torch' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, command, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_public_names_exist() -> None:
    """`__all__` is sorted, and each of its names exists."""
    assert list(harness.__all__) == sorted(harness.__all__)
    assert [name for name in harness.__all__ if not hasattr(harness, name)] == []
