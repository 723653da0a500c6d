"""Folders of runs with invented rows, and their reports."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd

from harness.cli.report import figure_plugins
from harness.comparison import compare_methods, read_compared_run
from harness.leaderboard import board
from harness.registry.catalogue import load_catalogue
from harness.report import DrawnFigure, DrawnFigures, make_figures, make_page, read_run
from harness.report.scripts import page_scripts
from harness.results.rows import Row, write_rows

PLUGINS = figure_plugins(load_catalogue())
"""The installed figures, as `harness report` passes them."""

KEY = "ab" * 32
Facts = dict[str, Any]
Event = dict[str, Any]


def row(
    method: str = "deep", seed: int = 0, value: float | None = 94.0, metric: str = "ensemble_accuracy", **changes: Any
) -> Row:
    """Return a row of cifar10 and resnet20. A row without a value has the status `missing` unless `status` is given."""
    fields: dict[str, Any] = {
        "benchmark": "paper",
        "dataset": "cifar10",
        "architecture": "resnet20",
        "members": 3,
        "options": "{}",
        "unit": "percent",
        "better": "higher",
        "metric_version": "m@1",
        "cell": KEY,
        "key": KEY[::-1],
        "status": "missing" if value is None else "done",
    }
    return Row(**{**fields, **changes}, method=method, seed=seed, metric=metric, value=value)


def rows_of_method(method: str, shift: float = 0.0, seeds: Sequence[int] = (0, 1, 2), **changes: Any) -> list[Row]:
    """Return rows of every metric that figures show.

    Values depend on the seed, the pair and λ, and on the method by the shift alone.
    """
    found = []
    for seed in seeds:
        for n, metric in enumerate(("joint_connectivity", "mean_member_accuracy", "ensemble_accuracy")):
            found.append(row(method, seed, 10 * n + shift + seed**2, metric, **changes))
        for n, metric in enumerate(("predictive_variance", "jensen_shannon_divergence")):
            found.append(row(method, seed, 0.1 * n + 0.01 * shift + 0.001 * seed, metric, unit="", better="", **changes))
        for pair, share in itertools.product(("0-1", "0-2", "1-2"), ("0", "0.5", "1")):
            value = 90 + shift + seed - 3 * float(pair[-1]) * float(share) ** 2
            found.append(row(method, seed, value, f"pairwise_curve/{pair}/{share}", main=False, **changes))
    return found


def forked(method: str, fork_epoch: int | None, shift: float = 0.0, **options: Any) -> list[Row]:
    """Return rows of a method with a fork epoch and other options."""
    return rows_of_method(method, shift, options=json.dumps({"fork_epoch": fork_epoch, **options}, sort_keys=True))


PLAIN = [*rows_of_method("deep", -20), *rows_of_method("swe", 1)]


FACTS: Facts = {
    "benchmark": {"name": "paper", "description": "Tables of the paper", "seeds": [0, 1, 2]},
    "status": "done",
    "failures": [],
    "epochs_trained": 30.0,
    "device": "cpu",
    "command": ["/usr/bin/harness", "run", "benchmarks/my paper.yaml"],
    "provenance": {
        "python": "3.11.2",
        "packages": {"torch": "2.6.0", "numpy": "2.1"},
        "machine": "x86_64",
        "processor": "Testium",
        "threads": 2,
        "device": "cpu",
        "cuda": None,
        "git": {"commit": "c0ffee", "clean": False},
    },
    "members": [],
}


def epochs(task: str, count: int = 3, first: int = 1, loss: float = 2.0) -> list[Event]:
    """Return the events of the epochs `first` to `count` of a training."""
    return [
        {"event": "epoch", "task": task, "kind": "train", "epoch": e, "loss": loss / e, "accuracy": 10.0 * e, "until": count}
        for e in range(first, count + 1)
    ]


EVENTS: list[Event] = [
    {"event": "run_started", "time": 0.0},
    *epochs("t1"),
    *epochs("t2", loss=3.0),
    {"event": "run_ended", "time": 90.0, "status": "done"},
]


def made(path: Path, rows: list[Row] | None = None, facts: Facts | None = FACTS, events: list[Event] | None = EVENTS) -> Path:
    """Write the folder of a run and return its path; `facts` or `events` of None leave that file out."""
    path.mkdir(exist_ok=True)
    write_rows(path / "results.csv", PLAIN if rows is None else rows)
    if facts is not None:
        (path / "run.json").write_text(json.dumps(facts))
    if events is not None:
        (path / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return path


def figures_of(folder: Path) -> tuple[DrawnFigure, ...]:
    """Return the figures of a run; assert that all of them could be drawn."""
    run = read_run(folder)
    drawn = make_figures(run, board({"run": run.rows}), PLUGINS)
    assert drawn.problems == ()
    return drawn.figures


def page_of(folder: Path, *, with_differences: bool = False) -> str:
    """Return the HTML page of a run, with its figures."""
    run = read_run(folder)
    comparisons = compare_methods([read_compared_run(folder)]) if with_differences else ()
    return make_page(run, board({"run": run.rows}), DrawnFigures(figures_of(folder)), comparisons)


def text_of(folder: Path) -> Page:
    """Return the parsed page of a run, without its figures, which are slow to draw."""
    run = read_run(folder)
    return Page(make_page(run, board({"run": run.rows}), DrawnFigures()))


def without_scripts(text: str) -> str:
    """Return a page without its own scripts; assert that each is there once and as it is shipped."""
    for script in page_scripts():
        assert text.count(f"<script>{script}</script>") == 1
        text = text.replace(f"<script>{script}</script>", "")
    return text


def table(figures: Iterable[DrawnFigure], start: str) -> pd.DataFrame:
    """Return the data of the only figure whose name has this start, read back from its CSV."""
    (figure,) = (figure for figure in figures if figure.name.startswith(start))
    return pd.read_csv(io.StringIO(figure.csv))


class Page(HTMLParser):
    """A parsed page: its tags with their attributes, its text outside of `<style>` and `<script>`, and its tables' cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self._is_hidden = False
        self._is_in_cell = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._is_hidden = tag in ("style", "script")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
            self._is_in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._is_hidden = False
        if tag in ("th", "td"):
            self._is_in_cell = False

    def handle_data(self, data: str) -> None:
        if not self._is_hidden:
            self.text += data
        if self._is_in_cell:
            self.tables[-1][-1][-1] += data

    def values(self, name: str) -> Iterator[str]:
        """Yield every value of an attribute."""
        for _, attributes in self.tags:
            if attributes.get(name) is not None:
                yield str(attributes[name])

    def pictures(self) -> list[str]:
        """Return the accessible name of each figure's picture."""
        return [str(attributes["aria-label"]) for tag, attributes in self.tags if tag == "svg"]

    def banner(self) -> str:
        """Return the text above the board."""
        return self.text.partition("Board\n")[0]
