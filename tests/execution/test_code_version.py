"""The versions of the code that a run and its workers use, and the message about a difference."""

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
def test_worker_with_other_code(case: str) -> None:
    """The message names what the run and the worker use, and where each comes from."""
    worker, message = DIFFERENCES[case]
    assert code_difference(RUN, worker) == message


def test_plugin_that_only_the_run_cannot_load() -> None:
    """The message names the plugin and the problem."""
    broken = replace(RUN, plugins=(replace(MINE, problem="cannot register: ValueError"),))
    text = "plugin 'mine': the worker uses mine-dist 2.0 from /env/mine, the run cannot load it (cannot register: ValueError)"
    assert code_difference(broken, RUN) == text


def test_same_code_in_another_place() -> None:
    """A copy of the same code on another node of a cluster is no difference."""
    copy = replace(HARNESS, location="/node/harness")
    assert code_difference(RUN, replace(RUN, executable="/node/python", harness=copy)) == ""


def test_plugin_that_neither_can_load() -> None:
    """It is no difference, also if the two problems have different texts."""
    run = replace(RUN, plugins=(replace(MINE, problem="does not import: at 0x1"),))
    worker = replace(RUN, plugins=(replace(MINE, problem="does not import: at 0x2"),))
    assert code_difference(run, worker) == ""


def test_same_code_is_accepted() -> None:
    """A worker with the run's code raises nothing."""
    require_same_code(RUN, RUN)


def test_other_code_is_refused() -> None:
    """One line names the difference and the next step."""
    with pytest.raises(
        OtherCode,
        match=r"^a worker process runs other code than the run: plugin 'mine': .*, the worker does not find it; "
        r"install what the run uses where workers find it .* and run the same command again: it goes on$",
    ):
        require_same_code(RUN, replace(RUN, plugins=()))


def test_version_is_read_back_from_json() -> None:
    """The JSON is one line, since engines send it to other processes, and gives an equal value."""
    assert CodeVersion.from_json(RUN.to_json()) == RUN
    assert "\n" not in RUN.to_json()


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", '{"harness": {"odd": 1}, "plugins": []}'])
def test_json_of_another_harness(text: str) -> None:
    """The error says that the run uses another version of the harness."""
    with pytest.raises(
        OtherCode, match=r"the run's code version is not readable \(.*\): the run uses another harness than basin-harness "
    ):
        CodeVersion.from_json(text)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that installs a distribution whose entry point is a module in the test's folder."""
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


def test_sources_of_a_package(install: Callable[[str], None], tmp_path: Path) -> None:
    """The digest depends on the names and contents of all Python files of the package, and on no other file."""
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


def test_source_of_a_single_module(install: Callable[[str], None], tmp_path: Path) -> None:
    """The digest depends on its file, and not on the files beside it."""
    install("code_version_module")
    (tmp_path / "code_version_module.py").write_text("a = 1")
    before = version_of_mine()
    assert before.location == str(tmp_path / "code_version_module.py")
    (tmp_path / "neighbor.py").write_text("")
    assert version_of_mine() == before
    (tmp_path / "code_version_module.py").write_text("a = 2")
    assert version_of_mine().digest != before.digest


def test_package_in_a_namespace(install: Callable[[str], None], tmp_path: Path) -> None:
    """Its location is the package, not the namespace that other distributions share."""
    package = tmp_path / "code_version_namespace" / "mine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    install("code_version_namespace.mine")
    assert version_of_mine().location == str(package)


def test_entry_point_of_a_missing_module(install: Callable[[str], None]) -> None:
    """Its version has neither location nor digest, but the problem."""
    install("code_version_nowhere")
    mine = version_of_mine()
    assert (mine.location, mine.digest) == ("", "")
    assert "does not import: ModuleNotFoundError" in mine.problem


def test_version_is_computed_without_torch() -> None:
    """torch is not imported; its version is known from its metadata."""
    code = (
        "import sys\nfrom harness.execution.code_version import current_code_version\nversion = current_code_version()\n"
        "assert version.torch[0].isdigit() and len(version.harness.digest) == 64, version\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
