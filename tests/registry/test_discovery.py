"""Plugins that cannot be used: each is named with its distribution, and stops nobody else."""

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
    """Return a function that puts a distribution with one plugin module on the path."""
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


def test_plugin_that_does_not_import_is_named(install: Install) -> None:
    """The distribution, the error and the way out stand in one line; the built-in plugins are there."""
    install("broken-dist", "broken_module", "import no_such_library")
    found = discover()
    assert found.problems == (
        "plugin 'broken_module' of distribution 'broken-dist 1.0' does not import: ModuleNotFoundError: No module named "
        f"'no_such_library' (broken_module.py:1); fix it, or leave it out with {DISABLED}=broken_module",
    )
    assert {"basin", "vision", "metrics", "engines"} <= set(found.sources)


def test_plugin_that_exits_is_named(install: Install) -> None:
    """A module that calls sys.exit does not end the command."""
    install("exits", "exits_module", "raise SystemExit(3)")
    assert "does not import: SystemExit: 3" in discover().problems[0]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit(3)", "SystemExit: 3 (odd_module.py:3)"),
        ("raise GeneratorExit", "GeneratorExit (odd_module.py:3)"),
        ("raise ValueError('a\\n\\x1b[2Jb')", "ValueError: a \ufffd[2Jb (odd_module.py:3)"),
        ("print('hello')", ""),
    ],
)
@pytest.mark.parametrize("when", ["imported", "registering"])
def test_plugin_that_ends_or_shouts(
    install: Install, capsys: pytest.CaptureFixture[str], code: str, said: str, when: str
) -> None:
    """Whatever it does when it is imported or asked for what it registers, the others are there, and a line says so."""
    before = {"imported": "#\n#\n", "registering": "import harness\n@harness.hookimpl\ndef register_metrics(register): "}
    install("odd", "odd_module", f"{before[when]}{code}\n")
    catalogue = load_catalogue()
    assert "brier_score" in catalogue.names("metric")
    assert [said in problem and problem.isprintable() for problem in catalogue.problems] == ([True] if said else [])
    assert capsys.readouterr().out == ""


def test_misspelt_hook_is_named(install: Install) -> None:
    """A hook that does not exist is refused, with the nearest one."""
    install("typo", "typo_module", "import harness\n\n@harness.hookimpl\ndef register_metric(register):\n    pass\n")
    problem = discover().problems[0]
    assert "distribution 'typo 1.0' implements an unknown hook 'register_metric'; did you mean 'register_metrics'?" in problem
    assert "typo_module" not in discover().sources


def test_wrong_argument_of_a_hook_is_named(install: Install) -> None:
    """A hook implementation that asks for what there is not is refused by name."""
    install("args", "args_module", "import harness\n\n@harness.hookimpl\ndef register_metrics(registrar):\n    pass\n")
    assert "distribution 'args 1.0' is refused" in discover().problems[0]


def test_two_distributions_with_one_entry_point_name_are_refused(install: Install) -> None:
    """One would silently hide the other."""
    install("first", "first_module", "", entry="same")
    install("second", "second_module", "", entry="same")
    with pytest.raises(PluginError, match=r"plugin 'same' of distribution '\w+ 1.0' and plugin 'same' of .* have one name"):
        discover()


def test_one_module_under_two_names_is_registered_once(install: Install) -> None:
    """The second is named with its module, in a line without Python objects."""
    install("first", "shared_module", "")
    install("second", "shared_module", "", entry="zweite")
    (problem,) = discover().problems
    assert problem == (
        "plugin 'zweite' of distribution 'second 1.0' is the module of plugin 'shared_module' once more: 'shared_module'; "
        "fix it, or leave it out with HARNESS_DISABLED_PLUGINS=zweite"
    )


def test_two_plugins_with_one_name_are_refused(install: Install) -> None:
    """Both distributions are named, and how to leave one out."""
    install("mine", "mine_module", METRIC.format(name="brier_score"))
    with pytest.raises(
        PluginError, match=r"metric 'brier_score' is registered twice, by plugin 'metrics' of .* and by plugin 'mine_module'"
    ):
        load_catalogue()


def test_disabled_plugins_are_left_out(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the plugin's name or the distribution's."""
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
def test_what_is_no_whole_plugin_is_refused(install: Install, change: str, message: str) -> None:
    """The hook, the class and the offence are named; the other plugins stay."""
    code = METRIC.format(name="odd").replace("    def measure(self, ensemble):\n        return []\n", "")
    body = "" if "measure" in change else "    def measure(self, ensemble):\n        return []\n"
    install("odd", "odd_module", code.replace("    name = 'odd'\n", f"    name = 'odd'\n{body}    {change}\n"))
    catalogue = load_catalogue()
    assert len(catalogue.problems) == 1
    assert message in catalogue.problems[0]
    assert "distribution 'odd 1.0' cannot register: PluginError: register_metrics:" in catalogue.problems[0]
    assert "brier_score" in catalogue.names("metric")
