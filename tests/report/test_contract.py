"""`check_figure` names the part of the contract that a figure violates."""

from __future__ import annotations

import inspect
import random
import re
import socket
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import Figure, FigureData, Plot
from harness.testing import check_figure, figure_data


def values(data: FigureData) -> list[float]:
    """Return the values of a metric."""
    return list(data.rows[data.rows["metric"] == "brightness"]["value"].dropna())


def plots(data: FigureData, shown: Iterable[float], paint: Callable[[Any], object] = lambda canvas: None) -> list[Plot]:
    """Return a plot of the shown values, or no plot without values."""
    records = tuple((value,) for value in shown)
    return [Plot("Brightness", "Each seed's.", ("value",), records, paint)] if records else []


def connect(data: FigureData) -> list[Plot]:
    """Draw after connecting to the network."""
    with socket.socket() as connection:
        connection.connect(("127.0.0.1", 9))
    return plots(data, values(data))


def overwrite(data: FigureData) -> list[Plot]:
    """Draw and change the rows."""
    shown = values(data)
    data.rows["value"] = 0.0
    return plots(data, shown)


def forget(data: FigureData) -> list[Plot]:
    """Draw and change the facts."""
    data.facts.clear()  # type: ignore[attr-defined]
    return plots(data, values(data))


def spread(data: FigureData) -> list[Plot]:
    """Draw a value divided by the number of seeds minus one."""
    return plots(data, [sum(values(data)) / (len(set(data.rows["seed"])) - 1)])


def whole(data: FigureData) -> list[Plot]:
    """Draw every value as an integer."""
    return plots(data, [int(value) for value in data.rows["value"]])


BROKEN: list[tuple[Callable[[FigureData], Any], str]] = [
    (lambda data: [], "toy: no plot of rows of brightness"),
    (lambda data: ["x"], "toy: draw gave str; only harness.Plot is expected"),
    (lambda data: plots(data, [random.random()]), "toy: drawing twice gives other plots"),
    (lambda data: plots(data, [1.0]), "toy: a plot of rows of another metric, which hold nothing to show"),
    (lambda data: plots(data, [1.0] * ("brightness" in set(data.rows["metric"]))), "toy: a plot of cells that failed"),
    (connect, "toy: it reaches for the network"),
    (overwrite, "toy: it changes the rows"),
    (forget, "toy: it changes the run's facts or builders"),
    (spread, "toy: it cannot draw one seed: ZeroDivisionError: "),
    (whole, "toy: it cannot draw values that are NaN: ValueError: cannot convert float NaN to integer"),
]


def figure(draw: Callable[[FigureData], Any]) -> Figure:
    """Return a figure with this `draw`."""
    return type("Toy", (Figure,), {"name": "toy", "draw": lambda self, data: draw(data)})()


@pytest.mark.parametrize(("draw", "message"), BROKEN)
def test_figure_that_violates_the_contract(draw: Callable[[FigureData], Any], message: str) -> None:
    """The message names the figure and the violation."""
    with pytest.raises(AssertionError, match=f"^{message}"):
        check_figure(figure(draw), ["brightness"])


def test_figure_that_keeps_the_contract() -> None:
    """`check_figure` returns its plots."""
    (plot,) = check_figure(figure(lambda data: plots(data, values(data))), ["brightness"])
    assert len(plot.records) == 6


def test_figure_of_trainings_only() -> None:
    """It may ignore the rows."""
    (plot,) = check_figure(figure(lambda data: plots(data, [len(data.trainings)] * bool(data.trainings))), ["any"])
    assert plot.records == ((2,),)


def test_synthetic_data() -> None:
    """Values differ by method, metric and seed; options and builders are those of the methods."""
    data = figure_data(["a", "b"], {"m(1)": {"t": 1}, "n": {}}, seeds=(4, 5))
    assert list(data.rows["value"]) == pytest.approx([1.04, 1.05, 1.14, 1.15, 2.04, 2.05, 2.14, 2.15])
    assert set(data.rows["options"]) == {'{"t": 1}', "{}"}
    assert data.builders == {"m(1)": "m", "n": "n"}
    assert data.table.seeds == (4, 5)


def documented(source: str) -> type[Figure]:
    """Return the figure class that a code example defines."""
    names = {name: getattr(harness, name) for name in ("Figure", "Plot", "drawing", "hookimpl")}
    exec(source, names)
    return names["CalibrationByMethod"]


def test_documented_examples() -> None:
    """The examples of `docs/plugins.md` and of the docstring of `Figure` keep the contract."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "(Figure)" in block]
    docstring = inspect.getdoc(Figure) or ""
    start, end = docstring.index("class Cal"), docstring.index("The report makes")
    assert len(blocks) == 1
    for source in (*blocks, textwrap.dedent(docstring[start:end])):
        (plot,) = check_figure(documented(source)(), ["expected_calibration_error"])
        assert plot.columns == ("method", "expected_calibration_error")
