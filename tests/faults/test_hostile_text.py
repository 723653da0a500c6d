"""Text of plugins and benchmark files on boards and pages: it is escaped in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import harness
import toys
from conftest import Lab
from harness.cli.report import figure_plugins
from harness.leaderboard import FORMATS, board, render
from harness.plan.graph import Graph
from harness.report import make_figures, make_page, read_run
from harness.results.rows import read_rows
from run_folder import without_scripts

HOSTILE = "<img src=x onerror=alert(1)> ${7*7} {{7*7}} [x](javascript:alert(1)) `x` \\input{x} \x1b[31m \u202e & \"'"
PRINTABLE = HOSTILE.replace("\x1b", "").replace("\u202e", "")[:90]
LABEL = "<blink>x</blink>&\"'`$\\{{7*7}}*_[a](b)"


class Raising(harness.Metric):
    """Raises an error with markup in its message."""

    name = "raising"

    def measure(self, ensemble: harness.EvaluatedEnsemble) -> Any:
        raise RuntimeError(HOSTILE)


class Failing(harness.Metric):
    """Fails its task with two lines of markup."""

    name = "failing"

    def measure(self, ensemble: harness.EvaluatedEnsemble) -> Any:
        raise harness.TaskFailed(f"{HOSTILE}\n{HOSTILE}")


class OddNames(harness.Metric):
    """Has markup in its name, in a unit and in the name of a value."""

    name = "odd <script>alert(1)</script>"

    def measure(self, ensemble: harness.EvaluatedEnsemble) -> Any:
        return [
            harness.MetricValue(self.name, 1.0, unit=PRINTABLE),
            harness.MetricValue("odd/[x](javascript:y) <img>", 2.0),
        ]


@pytest.fixture
def texts(graph_of: Callable[..., Graph], lab: Lab) -> dict[str, str]:
    """The board in each format, and the page as "page", of a run with markup in messages, names, a label and a unit."""
    catalogue = toys.catalogue(("metric", Raising), ("metric", Failing), ("metric", OddNames))
    graph = graph_of(
        catalogue,
        methods=[{"deep": {"label": LABEL}}, "deep"],
        metrics=["ensemble_accuracy", "raising", "failing", OddNames.name],
        description=HOSTILE,
    )
    messages = list(lab.run(graph, catalogue).failures.values())
    assert len(messages) == 2
    assert [message for message in messages if not message.isprintable()] == []
    facts = {"benchmark": graph.benchmark.resolved(), "command": [HOSTILE, HOSTILE]}
    (lab.out / "run.json").write_text(json.dumps(facts))
    shown = board({str(lab.out): read_rows(lab.out)}, "all")
    run = read_run(lab.out)
    found = {form: render(shown, form) for form in FORMATS}
    page = make_page(run, shown, make_figures(run, shown, figure_plugins(catalogue)))
    found["page"] = without_scripts(page)
    return found


def test_markup_in_names_and_messages(texts: dict[str, str]) -> None:
    """No format has a tag, a link, a command or a control character of the hostile text."""
    for form in ("html", "page", "markdown"):
        for tag in ("<img", "<blink", "<script"):
            assert tag not in texts[form], form
    for form, text in texts.items():
        assert "\x1b" not in text, form
    assert "[x](javascript" not in texts["markdown"]
    assert "[a](b)" not in texts["markdown"]
    assert "\\input" not in texts["latex"]
