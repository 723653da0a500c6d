"""The code that two processes run: what is in a version, and how a difference is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.execution.code_version import (
    CodeVersion,
    OtherCode,
    PluginVersion,
    code_difference,
    current_code_version,
    require_same_code,
)
from harness.registry.catalogue import load_catalogue

HARNESS = PluginVersion("harness", "basin-harness 1.0", "/env/harness", "a" * 64)
MINE = PluginVersion("mine", "mine-dist 2.0", "/env/mine", "b" * 64)
RUN = CodeVersion("3.11.7", "/env/bin/python", "2.6.0", HARNESS, (MINE,))

DIFFERENCES: dict[str, tuple[CodeVersion, str]] = {
    "python": (
        replace(RUN, python="3.12.1", executable="/other/python"),
        "the run uses Python 3.11.7 (/env/bin/python), the worker Python 3.12.1 (/other/python)",
    ),
    "torch": (
        replace(RUN, torch="2.7.0", executable="/other/python"),
        "the run uses torch 2.6.0 (/env/bin/python), the worker torch 2.7.0 (/other/python)",
    ),
    "harness": (
        replace(RUN, harness=PluginVersion("harness", "basin-harness 1.1", "/other/harness", "c" * 64)),
        "the harness: the run uses basin-harness 1.0 from /env/harness (sources aaaaaaaaaaaa), "
        "the worker basin-harness 1.1 from /other/harness (sources cccccccccccc)",
    ),
    "version of a plugin": (
        replace(RUN, plugins=(replace(MINE, distribution="mine-dist 2.1", location="/other/mine"),)),
        "plugin 'mine': the run uses mine-dist 2.0 from /env/mine (sources bbbbbbbbbbbb), "
        "the worker mine-dist 2.1 from /other/mine (sources bbbbbbbbbbbb)",
    ),
    "edited plugin": (
        replace(RUN, plugins=(replace(MINE, digest="d" * 64),)),
        "plugin 'mine': the run uses mine-dist 2.0 from /env/mine (sources bbbbbbbbbbbb), the worker mine-dist 2.0 from "
        "/env/mine (sources dddddddddddd), whose sources have changed since the run began",
    ),
    "missing plugin": (
        replace(RUN, plugins=()),
        "plugin 'mine': the run uses mine-dist 2.0 from /env/mine, the worker does not find it",
    ),
    "plugin too many": (
        replace(RUN, plugins=(MINE, replace(MINE, plugin="more", location=""))),
        "plugin 'more': the worker finds mine-dist 2.0 from an unknown place, the run does not",
    ),
    "plugin that the worker cannot load": (
        replace(RUN, plugins=(replace(MINE, problem="does not import: ImportError"),)),
        "plugin 'mine': the run uses mine-dist 2.0 from /env/mine, the worker cannot load it (does not import: ImportError)",
    ),
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_difference_names_both_sides(case: str) -> None:
    """What the run uses and what the worker uses, each with where it comes from."""
    worker, said = DIFFERENCES[case]
    assert code_difference(RUN, worker) == said


def test_plugin_that_only_the_run_cannot_load_is_a_difference() -> None:
    """The run would lack what the worker offers."""
    broken = replace(RUN, plugins=(replace(MINE, problem="cannot register: ValueError"),))
    said = "plugin 'mine': the worker uses mine-dist 2.0 from /env/mine, the run cannot load it (cannot register: ValueError)"
    assert code_difference(broken, RUN) == said


def test_same_code_in_another_place_is_no_difference() -> None:
    """Nodes of a cluster may each have a copy; a plugin that neither can load is the same on both sides, however it fails."""
    elsewhere = replace(HARNESS, location="/node/harness")
    assert code_difference(RUN, replace(RUN, executable="/node/python", harness=elsewhere)) == ""
    broken = [replace(RUN, plugins=(replace(MINE, problem=f"does not import: at {place}"),)) for place in ("0x1", "0x2")]
    assert code_difference(*broken) == ""


def test_other_code_is_refused_with_the_next_step() -> None:
    """In one line."""
    require_same_code(RUN, RUN)
    with pytest.raises(
        OtherCode,
        match=r"^a worker process runs other code than the run: plugin 'mine': .*, the worker does not find it; "
        r"install what the run uses where workers find it .* and run the same command again: it goes on$",
    ):
        require_same_code(RUN, replace(RUN, plugins=()))


def test_json_gives_the_same_value() -> None:
    """Engines send it to other processes."""
    assert CodeVersion.from_json(RUN.to_json()) == RUN
    assert "\n" not in RUN.to_json()


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", '{"harness": {"odd": 1}, "plugins": []}'])
def test_what_another_harness_has_written_is_refused(text: str) -> None:
    """Its fields may be others."""
    with pytest.raises(
        OtherCode, match=r"the run's code version is not readable \(.*\): the run uses another harness than basin-harness "
    ):
        CodeVersion.from_json(text)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes an installed distribution whose entry point is a module of the test's folder."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(module: str) -> None:
        info = tmp_path / "mine_dist-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine-dist\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[harness]\nmine = {module}\n")

    return put


def version_of_mine() -> PluginVersion:
    """Return the installed plugin's version."""
    problems = load_catalogue().problems
    return next(plugin for plugin in current_code_version(problems).plugins if plugin.plugin == "mine")


def test_every_source_of_a_package_counts(install: Callable[[str], None], tmp_path: Path) -> None:
    """Also where the entry point names a module inside; what is no source does not."""
    inner = tmp_path / "code_version_package" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").write_text("")
    (inner / "plugin.py").write_text("")
    install("code_version_package.inner.plugin")
    before = version_of_mine()
    assert (before.distribution, before.location, before.problem) == ("mine-dist 1.0", str(inner.parent), "")
    (inner / "notes.txt").write_text("no source")
    assert version_of_mine() == before
    (inner / "more.py").write_text("a = 1")
    added = version_of_mine()
    (inner / "more.py").write_text("a = 2")
    changed = version_of_mine()
    (inner / "more.py").rename(inner.parent / "more.py")
    moved = version_of_mine()
    assert len({version.digest for version in (before, added, changed, moved)}) == 4


def test_single_module_counts(install: Callable[[str], None], tmp_path: Path) -> None:
    """Its file alone, whatever lies beside it."""
    install("code_version_module")
    (tmp_path / "code_version_module.py").write_text("a = 1")
    before = version_of_mine()
    assert before.location == str(tmp_path / "code_version_module.py")
    (tmp_path / "neighbor.py").write_text("")
    assert version_of_mine() == before
    (tmp_path / "code_version_module.py").write_text("a = 2")
    assert version_of_mine().digest != before.digest


def test_package_in_a_namespace_counts_alone(install: Callable[[str], None], tmp_path: Path) -> None:
    """A namespace is shared with other distributions."""
    package = tmp_path / "code_version_namespace" / "mine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    install("code_version_namespace.mine")
    assert version_of_mine().location == str(package)


def test_plugin_that_is_not_there_has_a_problem_and_no_place(install: Callable[[str], None]) -> None:
    """It was found as an entry point, and could not be loaded."""
    install("code_version_nowhere")
    mine = version_of_mine()
    assert (mine.location, mine.digest) == ("", "")
    assert "does not import: ModuleNotFoundError" in mine.problem


def test_version_costs_no_torch() -> None:
    """A worker says which code it runs before it imports torch."""
    code = (
        "import sys\nfrom harness.execution.code_version import current_code_version\nversion = current_code_version()\n"
        "assert version.torch[0].isdigit() and len(version.harness.digest) == 64, version\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
