"""Plugins that cannot be used: each is named with its distribution, and the others are loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import PluginError
from harness.registry.catalogue import load_catalogue
from harness.registry.discovery import DISABLED, discover

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a distribution with one plugin module on the path."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(distribution: str, module: str, code: str, entry: str | None = None) -> None:
        monkeypatch.delitem(sys.modules, module, raising=False)
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[harness]\n{entry or module} = {module}\n")
        (tmp_path / f"{module}.py").write_text(code)

    return put


METRIC = """
import harness

class Odd(harness.Metric):
    name = {name!r}
    def measure(self, ensemble):
        return []

@harness.hookimpl
def register_metrics(register):
    register(Odd)
"""


def test_plugin_that_does_not_import(install: Install) -> None:
    """One line names the distribution, the error and what to do; the built-in plugins are loaded."""
    install("broken-dist", "broken_module", "import no_such_library")
    found = discover()
    assert found.problems == (
        "plugin 'broken_module' of distribution 'broken-dist 1.0' does not import: ModuleNotFoundError: No module named "
        f"'no_such_library' (broken_module.py:1); fix it, or leave it out with {DISABLED}=broken_module",
    )
    assert {"basin", "vision", "metrics", "engines"} <= set(found.sources)


def test_plugin_that_exits(install: Install) -> None:
    """A module that raises SystemExit is a problem, and does not end the command."""
    install("exits", "exits_module", "raise SystemExit(3)")
    [problem] = discover().problems
    assert "does not import: SystemExit: 3" in problem


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise SystemExit(3)", "SystemExit: 3 (odd_module.py:3)"),
        ("raise GeneratorExit", "GeneratorExit (odd_module.py:3)"),
        ("raise ValueError('a\\n\\x1b[2Jb')", "ValueError: a \ufffd[2Jb (odd_module.py:3)"),
        ("print('hello')", ""),
    ],
)
@pytest.mark.parametrize("when", ["imported", "registering"])
def test_plugin_that_raises_or_prints(
    install: Install, capsys: pytest.CaptureFixture[str], code: str, error: str, when: str
) -> None:
    """The other plugins are loaded, an error is one printable line, and standard output stays empty."""
    before = {"imported": "#\n#\n", "registering": "import harness\n@harness.hookimpl\ndef register_metrics(register): "}
    install("odd", "odd_module", f"{before[when]}{code}\n")
    catalogue = load_catalogue()
    assert "brier_score" in catalogue.names("metric")
    assert len(catalogue.problems) == (1 if error else 0)
    for problem in catalogue.problems:
        assert error in problem
        assert problem.isprintable()
    assert capsys.readouterr().out == ""


def test_misspelled_hook(install: Install) -> None:
    """The problem names the hook and suggests the nearest one; the plugin is not loaded."""
    install("typo", "typo_module", "import harness\n\n@harness.hookimpl\ndef register_metric(register):\n    pass\n")
    found = discover()
    [problem] = found.problems
    assert "distribution 'typo 1.0' implements an unknown hook 'register_metric'; did you mean 'register_metrics'?" in problem
    assert "typo_module" not in found.sources


def test_hook_with_an_unknown_argument(install: Install) -> None:
    """The problem names the distribution and the argument."""
    install("args", "args_module", "import harness\n\n@harness.hookimpl\ndef register_metrics(registrar):\n    pass\n")
    [problem] = discover().problems
    assert "distribution 'args 1.0' is refused" in problem
    assert "registrar" in problem


def test_two_distributions_with_one_entry_point_name(install: Install) -> None:
    """They are refused, since one would silently hide the other."""
    install("first", "first_module", "", entry="same")
    install("second", "second_module", "", entry="same")
    with pytest.raises(PluginError, match=r"plugin 'same' of distribution '\w+ 1.0' and plugin 'same' of .* have one name"):
        discover()


def test_one_module_under_two_names(install: Install) -> None:
    """It is loaded once; the problem names the second distribution and the module."""
    install("first", "shared_module", "")
    install("second", "shared_module", "", entry="zweite")
    (problem,) = discover().problems
    assert problem == (
        "plugin 'zweite' of distribution 'second 1.0' is the module of plugin 'shared_module' once more: 'shared_module'; "
        "fix it, or leave it out with HARNESS_DISABLED_PLUGINS=zweite"
    )


def test_two_plugins_that_register_one_name(install: Install) -> None:
    """The error names the plugins of both."""
    install("mine", "mine_module", METRIC.format(name="brier_score"))
    with pytest.raises(
        PluginError, match=r"metric 'brier_score' is registered twice, by plugin 'metrics' of .* and by plugin 'mine_module'"
    ):
        load_catalogue()


def test_disabled_plugins(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin is disabled by its own name or by the name of its distribution."""
    install("mine", "mine_module", METRIC.format(name="brier_score"))
    install("other-dist", "other_module", "import nothing_there")
    monkeypatch.setenv(DISABLED, "mine_module, other-dist")
    catalogue = load_catalogue()
    assert catalogue.problems == ()
    assert catalogue.registration("metric", "brier_score").source.plugin == "metrics"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("name = ''", r"Odd.name is ''; a printable text of 1 to 100 characters"),
        ("version = 0", r"Odd.version is 0; a whole number from 1"),
        ("measure = harness.Metric.measure", r"Odd does not define measure"),
        ("Options = 3", r"Odd.Options is 3; a subclass of harness.Options"),
    ],
)
def test_invalid_plugin_class(install: Install, change: str, message: str) -> None:
    """The problem names the hook, the class and what is wrong; the other plugins are loaded."""
    code = METRIC.format(name="odd").replace("    def measure(self, ensemble):\n        return []\n", "")
    body = "" if "measure" in change else "    def measure(self, ensemble):\n        return []\n"
    install("odd", "odd_module", code.replace("    name = 'odd'\n", f"    name = 'odd'\n{body}    {change}\n"))
    catalogue = load_catalogue()
    [problem] = catalogue.problems
    assert message in problem
    assert "distribution 'odd 1.0' cannot register: PluginError: register_metrics:" in problem
    assert "brier_score" in catalogue.names("metric")
