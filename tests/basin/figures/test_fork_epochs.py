"""Curves against the fork epoch: the methods on a curve, and its values against the rows."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from harness.results.rows import frame
from harness.testing import check_figure
from harness_basin.figures import ForkEpochs
from run_folder import FACTS, PLAIN, figures_of, forked, made, rows_of_method, table


def test_methods_at_several_fork_epochs(tmp_path: Path) -> None:
    """There is one curve per β, in order of t, and none for a method with one t or without t."""
    rows = [*PLAIN, *forked("alone", 3, gamma=1)]
    for t in (10, 5):
        for beta in (0.2, 0.5):
            rows += forked(f"distilled(fork_epoch={t},beta={beta})", t, t * beta, beta=beta, temperature=3.0)
        rows += forked(f"constrained(fork_epoch={t})", t, -t)
    data = table(figures_of(made(tmp_path / "run", rows)), "fork_epochs")
    assert list(dict.fromkeys(data["metric"])) == ["predictive_variance", "jensen_shannon_divergence", "joint_connectivity"]
    part = data[data["metric"] == "predictive_variance"]
    curves = ("distilled, beta = 0.2", "distilled, beta = 0.5", "constrained")
    assert list(zip(part["curve"], part["fork_epoch"])) == list(itertools.product(curves, (5, 10)))
    measured = frame(rows)
    for record in data.itertuples():
        values = measured[(measured["method"] == record.method) & (measured["metric"] == record.metric)]["value"]
        assert (record.mean, record.std, record.n) == (pytest.approx(values.mean()), pytest.approx(values.std()), 3)


def test_methods_with_labels(tmp_path: Path) -> None:
    """Two labels of one plugin are one curve; without run.json, they are two methods."""
    rows = forked("early", 1) + forked("late", 5, 1.0)
    methods = [{"label": "early", "name": "constrained"}, {"label": "late", "name": "constrained"}]
    facts = {**FACTS, "benchmark": {"pairs": [{"methods": methods}]}}
    assert set(table(figures_of(made(tmp_path / "one", rows, facts)), "fork_epochs")["curve"]) == {"constrained"}
    assert not [f for f in figures_of(made(tmp_path / "two", rows, None)) if f.name.startswith("fork_epochs")]


def test_unknown_fork_epoch(tmp_path: Path) -> None:
    """A method whose fork epoch is null, or whose options are not a JSON object, is on no curve."""
    rows = [*forked("m(1)", 1), *forked("m(2)", 2, 1.0), *forked("m", None, 2.0)]
    rows += rows_of_method("n", options="not JSON") + rows_of_method("o", options="[1]")
    data = table(figures_of(made(tmp_path / "run", rows)), "fork_epochs")
    assert set(data["method"]) == {"m(1)", "m(2)"}


def test_ensembles_of_two_sizes(tmp_path: Path) -> None:
    """There is one curve per size."""
    rows = []
    for members, t in ((3, 1), (3, 2), (5, 1), (5, 2)):
        options = json.dumps({"fork_epoch": t})
        rows += rows_of_method(f"m(fork_epoch={t},{members})", t, options=options, members=members)
    data = table(figures_of(made(tmp_path / "run", rows)), "fork_epochs")
    assert set(data["curve"]) == {"m, M = 3", "m, M = 5"}


def test_contract() -> None:
    """The figure shows the metrics that have rows."""
    methods = {"m(1)": {"fork_epoch": 1}, "m(2)": {"fork_epoch": 2}}
    (plot,) = check_figure(ForkEpochs(), ["predictive_variance", "joint_connectivity"], methods)
    assert {record[:2] for record in plot.records} == {("predictive_variance", "m"), ("joint_connectivity", "m")}
