"""The contract of figures as a function for their tests, and synthetic data to draw. `harness.testing` exports both."""

from __future__ import annotations

import copy
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from harness.api.figure import Epoch, Figure, FigureData, Plot, Training
from harness.leaderboard import board
from harness.report import rendering
from harness.results.rows import Row, frame

_KEY = "0" * 64
_METHODS: Mapping[str, Mapping[str, Any]] = {"first": {}, "second": {}}


def check_figure(
    figure: Figure,
    metrics: Sequence[str],
    methods: Mapping[str, Mapping[str, Any]] = _METHODS,
    seeds: Sequence[int] = (0, 1, 2),
) -> list[Plot]:
    """Check that a figure keeps its contract, and return its plots. Raise `AssertionError` for the first violation.

    `metrics` are the names of the metrics that it shows, `methods` the methods of the rows, each with its options. The figure
    must draw rows of its metrics, twice to the same plots, and return no plot for other rows. It must accept one seed, NaN
    values and failed cells, use no network, and change none of its data.
    """
    data = figure_data(metrics, methods, seeds)
    plots = _draw(figure, data)
    assert plots, f"{figure.name}: no plot of rows of {', '.join(metrics)}"
    first = [_render(plot) for plot in plots]
    second = [_render(plot) for plot in _draw(figure, data)]
    assert first == second, f"{figure.name}: drawing twice gives other plots"
    drawable = {
        "one seed": figure_data(metrics, methods, seeds[:1]),
        "values that are NaN": figure_data(metrics, methods, seeds, value=float("nan")),
    }
    for situation, other in drawable.items():
        _check_drawable(figure, situation, other)
    empty = {
        "rows of another metric": figure_data(["a metric of the contract"], methods, seeds),
        "cells that failed": figure_data(metrics, methods, seeds, value=None),
    }
    for situation, other in empty.items():
        without_trainings = replace(other, trainings=())
        assert not _draw(figure, without_trainings), f"{figure.name}: a plot of {situation}, which hold nothing to show"
    return plots


def figure_data(
    metrics: Sequence[str],
    methods: Mapping[str, Mapping[str, Any]] = _METHODS,
    seeds: Sequence[int] = (0, 1, 2),
    value: float | None = 1.0,
) -> FigureData:
    """Return synthetic data of some metrics and methods (each with its options), with two trainings of three epochs.

    Values differ by method, metric and seed; the first is `value`. If `value` is None, every cell failed.
    """
    rows = []
    for i, (method, options) in enumerate(methods.items()):
        for j, metric in enumerate(metrics):
            for seed in seeds:
                shifted = None
                if value is not None:
                    shifted = value + i + 0.1 * j + 0.01 * seed
                rows.append(_row(method, options, metric, seed, shifted))
    table_rows = frame(rows)
    epochs = tuple(Epoch(epoch, 2.0 / epoch, 30.0 * epoch) for epoch in (1, 2, 3))
    return FigureData(
        table=board({"contract": table_rows}).tables[0],
        rows=table_rows,
        builders={method: method.partition("(")[0] for method in methods},
        trainings=(Training("1" * 64, epochs), Training("2" * 64, epochs)),
        facts={"status": "done"},
        folder=Path("contract"),
    )


def _row(method: str, options: Mapping[str, Any], metric: str, seed: int, value: float | None) -> Row:
    return Row(
        benchmark="contract",
        dataset="dataset",
        architecture="architecture",
        method=method,
        seed=seed,
        metric=metric,
        value=value,
        status="failed" if value is None else "done",
        message="made to fail" if value is None else "",
        members=3,
        options=json.dumps(dict(options), sort_keys=True),
        cell=_KEY,
        key=_KEY,
    )


def _draw(figure: Figure, data: FigureData) -> list[Plot]:
    """Return a figure's plots. Check their type, that the data are unchanged and that no network is used."""
    rows = data.rows.copy()
    facts = copy.deepcopy(data.facts)
    builders = dict(data.builders)
    with mock.patch.object(socket.socket, "connect", side_effect=AssertionError(f"{figure.name}: it reaches for the network")):
        plots = list(figure.draw(data))
    for plot in plots:
        assert isinstance(plot, Plot), f"{figure.name}: draw gave {type(plot).__name__}; only harness.Plot is expected"
    assert rows.equals(data.rows), f"{figure.name}: it changes the rows"
    assert (facts, builders) == (data.facts, data.builders), f"{figure.name}: it changes the run's facts or builders"
    return plots


def _render(plot: Plot) -> tuple[str, str, str, str]:
    """Return everything that the report shows of a plot."""
    return plot.title, plot.caption, rendering.csv(plot), rendering.svg(plot)


def _check_drawable(figure: Figure, situation: str, data: FigureData) -> None:
    try:
        for plot in _draw(figure, data):
            _render(plot)
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{figure.name}: it cannot draw {situation}: {type(error).__name__}: {error}") from error
