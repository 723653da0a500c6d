"""The repository's files: benchmarks load, commands and links in the documents exist, linter and type checker pass."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import harness
from harness.benchmark import load_benchmark
from harness.cli import COMMANDS, cli
from harness.plan.planner import plan
from harness.registry import hookspecs
from harness.registry.catalogue import load_catalogue

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.yaml"))
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CATALOGUE = load_catalogue()


def test_benchmarks_of_the_readme_exist() -> None:
    """The README names two benchmark files."""
    assert {"quickstart.yaml", "paper.yaml"} <= {path.name for path in BENCHMARKS}


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda p: str(p.relative_to(ROOT)))
def test_benchmark_loads_and_plans(path: Path) -> None:
    """Every file under benchmarks/ is valid and has at least one cell."""
    assert len(plan(load_benchmark(path, CATALOGUE)).cells) > 0


def test_paper_costs_what_the_readme_says() -> None:
    """Six methods on CIFAR-10 with ResNet20 and one seed take 2,810 epochs together and 4,670 separately."""
    overrides = ["seeds=[0]", "datasets=[cifar10]", "architectures=[resnet20]"]
    cells = plan(load_benchmark(ROOT / "benchmarks" / "paper.yaml", CATALOGUE, overrides)).cells
    six = [cell for cell in cells if cell.spec.method.label != "multi_permuted"]
    assert len(six) == 6
    assert round(sum(cell.epochs_new for cell in six)) == 2810
    assert round(sum(cell.epochs_alone for cell in six)) == 4670


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_the_docs_exist(path: Path) -> None:
    """Every `harness …` in a document is an existing command with existing options."""
    for line in re.findall(r"^(?:.*/)?harness ((?:[a-z-]+)(?: .*)?)$|`harness ([a-z-]+[^`]*)`", path.read_text(), re.M):
        words = re.sub(r"\s#.*", "", line[0] or line[1]).split()
        assert words[0] in COMMANDS, f"{path.name}: no command '{words[0]}'"
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None
        options = set()
        for parameter in command.params:
            options.update(parameter.opts)
        for word in words[1:]:
            if word.startswith("--"):
                option = word.split("=")[0].rstrip("…,.")
                assert option in options, f"{path.name}: harness {words[0]} has no option {option}"


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_documents_exist(path: Path) -> None:
    """The target of every relative link exists."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_in_the_docs_exist(path: Path) -> None:
    """Paths of the repository that a document names in backticks exist; paths of tests may be relative to `tests/`."""
    folders = [ROOT, ROOT / "tests", ROOT / "tests" / "faults"]
    for name in re.findall(r"`((?:harness|plugins|tests|benchmarks|docs)/[\w./-]+|[\w/]*test_\w+\.py)`", path.read_text()):
        assert any((folder / name).exists() for folder in folders), f"{path.name}: {name}"


def test_every_hook_and_command_is_documented() -> None:
    """docs/plugins.md names every hook, and the README every command."""
    hooks = [name for name in vars(hookspecs) if name.startswith(("register_", "observe_"))]
    text = (ROOT / "docs" / "plugins.md").read_text()
    assert len(hooks) > 5
    assert [name for name in hooks if f"`{name}`" not in text] == []
    readme = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f"harness {name}" not in readme] == []
    assert hookspecs.PROJECT == "harness"


def test_versions_agree() -> None:
    """`harness.__version__` is the version in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == harness.__version__


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=" ".join)
def test_quality_gates(command: list[str]) -> None:
    """Linter, formatter and type checker report nothing."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
