"""Figures of the metrics' rows: their values against the rows, and rows that cannot be drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from harness.report import DrawnFigure, PrintStyle, write_figures
from harness.results.rows import Row
from harness.testing import check_figure
from harness_metrics.figures import LossPlaneFigure, SimplexMapFigure
from harness_metrics.figures.places import parse_place
from run_folder import figures_of, made, row, table

Change = Callable[[float], float]


def detail(method: str, seed: int, metric: str, value: float) -> Row:
    """Return a row that is no main value."""
    return row(method, seed, value, metric, main=False, unit="", better="")


def plane_rows(method: str, seed: int, change: Change = float) -> list[Row]:
    """Return the rows of a plane: members at (0, 0), (1, 2), (4, 0), accuracy and loss on a grid of 3 × 3."""
    rows = []
    for index, (x, y) in enumerate(((0, 0), (1, 2), (4, 0))):
        rows += [detail(method, seed, f"loss_plane_x/{index}", x), detail(method, seed, f"loss_plane_y/{index}", y)]
    for across in (-0.2, 0.5, 1.2):
        for up in (-0.2, 0.5, 1.2):
            place = f"{across:.4g}/{up:.4g}"
            rows.append(detail(method, seed, f"loss_plane_accuracy/{place}", change(50 + 10 * across + up)))
            rows.append(detail(method, seed, f"loss_plane_loss/{place}", change(2 + across)))
    return rows


def simplex_rows(method: str, seed: int, members: int = 3, change: Change = float) -> list[Row]:
    """Return q at the corners, the middle of an edge and the center of a simplex."""
    points = []
    for i in range(members):
        points.append([float(i == j) for j in range(members)])
    points += [[0.5, 0.5, *[0.0] * (members - 2)], [1 / members] * members]
    rows = []
    for number, point in enumerate(points):
        place = "/".join(f"{share:.6g}" for share in point)
        rows.append(detail(method, seed, f"simplex_map_q/{place}", change(-10.0 * number - seed)))
    return rows


def curve_rows(method: str, seed: int, change: Change = float) -> list[Row]:
    """Return the curves of three members: ends 90 and 80, with 60 + seed in the middle of the pair 0-1 and 86 of the others."""
    rows = []
    for pair in ("0-1", "0-2", "1-2"):
        middle = 60 + seed if pair == "0-1" else 86
        for share, value in (("0", 90), ("0.5", middle), ("1", 80)):
            rows.append(detail(method, seed, f"pairwise_curve/{pair}/{share}", change(value)))
    return rows


def calibration_rows(method: str, seed: int, change: Change = float) -> list[Row]:
    """Return two bins with examples."""
    rows = []
    for number in (4, 9):
        rows.append(detail(method, seed, f"calibration_count/{number}", 10))
        rows.append(detail(method, seed, f"calibration_confidence/{number}", change(10.0 * number - 5)))
        rows.append(detail(method, seed, f"calibration_accuracy/{number}", change(10.0 * number + seed)))
    return rows


def cost_rows(method: str, seed: int, change: Change = float) -> list[Row]:
    """Return accuracy and cost."""
    return [
        row(method, seed, change(90.0 + seed)),
        row(method, seed, change(30.0), "training_epochs", unit="epochs", better=""),
        row(method, seed, change(12.0), "new_epochs", main=False, unit="epochs", better=""),
    ]


def all_rows(method: str, seeds: tuple[int, ...] = (0, 1), change: Change = float) -> list[Row]:
    """Return rows for every figure."""
    rows = []
    for seed in seeds:
        rows += cost_rows(method, seed, change)
        rows += plane_rows(method, seed, change)
        rows += simplex_rows(method, seed, change=change)
        rows += curve_rows(method, seed, change)
        rows += calibration_rows(method, seed, change)
    return rows


def drawn(tmp_path: Path, rows: list[Row]) -> dict[str, DrawnFigure]:
    """Return the figures of a run with these rows by name, without data set and architecture."""
    figures = figures_of(made(tmp_path / "run", rows, events=None))
    return {figure.name.replace("-cifar10-resnet20", ""): figure for figure in figures}


def data_of(figures: dict[str, DrawnFigure], name: str) -> pd.DataFrame:
    """Return the data of a figure."""
    return table([figures[name]], name)


def test_plane(tmp_path: Path) -> None:
    """The first seed's grid is in weight distance: fractions of the triangle's bounding box, 4 wide and 2 high."""
    figures = drawn(tmp_path, [*all_rows("deep", (1, 0)), *all_rows("swe")])
    data = data_of(figures, "loss_plane")
    assert set(data["seed"]) == {0}
    assert sorted(data["x"].unique()) == pytest.approx([-0.8, 2.0, 4.8])
    assert sorted(data["y"].unique()) == pytest.approx([-0.4, 1.0, 2.4])
    center = data[(data["method"] == "swe") & (data["x"].round(6) == 2) & (data["y"].round(6) == 1)]
    assert list(center["accuracy"]) == [55.5]
    assert "loss" in figures["loss_plane-2"].plot.columns
    assert "of seed 0; one ensemble, so no error bars" in figures["loss_plane"].plot.caption


def test_plane_without_positions(tmp_path: Path) -> None:
    """Rows of a plane whose members' positions are missing, or on one line, are not drawn."""
    rows = [found for found in plane_rows("deep", 0) if found.metric != "loss_plane_y/1"]
    rows.append(row("deep"))
    flat = [detail("deep", 0, "loss_plane_y/1", 0.0)]
    assert "loss_plane" not in drawn(tmp_path, rows)
    assert "loss_plane" not in drawn(tmp_path, [*rows, *flat])


def test_ternary_map(tmp_path: Path) -> None:
    """It has the mean over seeds at each point."""
    figures = drawn(tmp_path, all_rows("deep"))
    data = data_of(figures, "simplex_map")
    assert list(data["q"]) == [-0.5, -10.5, -20.5, -30.5, -40.5]
    assert set(data["seeds"]) == {2}
    assert "Mean over 2 seeds." in figures["simplex_map"].plot.caption


def test_q_against_the_largest_weight(tmp_path: Path) -> None:
    """Ensembles of four have a dot per draw and seed."""
    rows = [*simplex_rows("deep", 0, 4), *simplex_rows("deep", 1, 4), *simplex_rows("swe", 0, 3)]
    figures = drawn(tmp_path, [row("deep"), row("swe"), *rows])
    data = data_of({"simplex_map": figures["simplex_map-2"]}, "simplex_map")
    assert list(data["largest_weight"]) == [1.0, 1.0, 1.0, 1.0, 0.5, 0.25] * 2
    assert set(data["method"]) == {"deep"}
    assert set(data_of(figures, "simplex_map")["method"]) == {"swe"}


def test_barriers_of_pairs(tmp_path: Path) -> None:
    """A barrier is the largest drop below the line between the ends: 85 − 60 for the first pair, none for the others."""
    data = data_of(drawn(tmp_path, all_rows("deep")), "pairwise_barriers")
    assert list(zip(data["member_i"], data["member_j"], data["barrier"])) == [(0, 1, 24.5), (0, 2, 0.0), (1, 2, 0.0)]


def test_barriers_without_ends(tmp_path: Path) -> None:
    """A curve without one of its ends has no barrier."""
    rows = [row("deep"), *[found for found in curve_rows("deep", 0) if not found.metric.endswith("/1")]]
    assert "pairwise_barriers" not in drawn(tmp_path, rows)


def test_reliability(tmp_path: Path) -> None:
    """Bins have confidence, accuracy, its standard deviation over seeds and the number of examples."""
    data = data_of(drawn(tmp_path, all_rows("deep")), "reliability_diagram")
    assert list(data["bin"]) == [4, 9]
    assert list(data["confidence"]) == [35.0, 85.0]
    assert list(data["accuracy"]) == [40.5, 90.5]
    assert list(data["accuracy_std"]) == pytest.approx([0.5**0.5] * 2)
    assert list(data["examples"]) == [20.0, 20.0]


def test_cost(tmp_path: Path) -> None:
    """A method has its accuracy over seeds, its cost alone, and its cost after the methods before it."""
    figures = drawn(tmp_path, all_rows("deep"))
    data = data_of(figures, "accuracy_cost")
    assert list(data.loc[0]) == ["deep", 90.5, pytest.approx(0.5**0.5), 2, 30.0, 12.0]
    assert "A hollow marker is the cost after the methods above it" in figures["accuracy_cost"].plot.caption


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e200])
def test_values_that_no_axis_can_show(tmp_path: Path, value: float) -> None:
    """A method of them is left out beside another, and makes no figure alone."""
    odd = all_rows("odd", change=lambda _: value)
    both = drawn(tmp_path, [*all_rows("deep"), *odd])
    write_figures(both.values(), tmp_path / "figures", ("svg",), PrintStyle(3.25))
    assert set(drawn(tmp_path, odd)) == set()


def test_equal_values(tmp_path: Path) -> None:
    """A constant plane, map or matrix is drawn in one color."""
    figures = drawn(tmp_path, all_rows("deep", (0,), lambda _: 0.0))
    assert {"loss_plane", "simplex_map", "pairwise_barriers", "accuracy_cost"} <= set(figures)


ODD_NAMES = [
    "<b>$x_1^2$</b> & \"q\" 'a'",
    "\x1b[31mred\x00\n",
    "_under",
    "x" * 300,
    "日本語",
    "a\u202eb",
    "%s {0} \\alpha",
    "$",
]


def test_odd_names(tmp_path: Path) -> None:
    """Names with markup, quotes, dollars and control characters, and one of 300 letters, break no file."""
    rows = []
    for name in ODD_NAMES:
        rows += all_rows(name, (0,))
    figures = drawn(tmp_path, rows)
    written = write_figures(figures.values(), tmp_path / "figures", ("pdf", "svg"), PrintStyle(3.25))
    assert all(path.stat().st_size > 1000 for path in written)
    for figure in figures.values():
        assert "<b>" not in figure.svg
        assert "\x00" not in figure.svg


def test_more_methods_than_panels(tmp_path: Path) -> None:
    """Twelve have a panel, the caption says so, and the data have all."""
    rows = []
    for number in range(15):
        rows += [row(f"method {number}"), *simplex_rows(f"method {number}", 0)]
    plot = drawn(tmp_path, rows)["simplex_map"].plot
    assert "The picture shows the first 12 of 15 methods; the data have all." in plot.caption
    assert len({record[0] for record in plot.records}) == 15


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("0.5/1", (0.5, 1.0)),
        ("0-1/0.25", (0.0, 1.0, 0.25)),
        ("-0.2/1e-05", (-0.2, 1e-05)),
        ("", ()),
        ("x", ()),
        ("1/nan", ()),
        ("inf", ()),
        ("0-1-2/1", ()),
    ],
)
def test_places(text: str, place: tuple[float, ...]) -> None:
    """Only finite numbers, and pairs of members with a dash, are places."""
    assert parse_place(text) == place


def test_contract_of_ensembles_of_two() -> None:
    """q against the largest weight keeps the contract of figures, too."""
    check_figure(SimplexMapFigure(), ["simplex_map_q/1/0", "simplex_map_q/0.5/0.5"])


def test_contract_of_the_loss() -> None:
    """A plane with the loss alone keeps it, too."""
    names = [found.metric for found in plane_rows("deep", 0) if "accuracy" not in found.metric]
    check_figure(LossPlaneFigure(), names)
