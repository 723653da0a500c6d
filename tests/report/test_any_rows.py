"""Reports of rows with any names and values."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.report import write_figures
from harness.results.rows import Row
from run_folder import Page, figures_of, made, page_of, row

any_text = st.text(st.characters(exclude_categories=()), max_size=5)


@st.composite
def runs(draw: st.DrawFn) -> list[Row]:
    """Rows with any methods, options and values."""
    found = {}
    metrics = ["ensemble_accuracy", "joint_connectivity", "predictive_variance", "pairwise_curve/0-1/0.5", "pairwise_curve/x"]
    metrics += ["training_epochs", "simplex_map_q/0.5/0.5", "simplex_map_q/", "loss_plane_x/0"]
    for method in draw(st.lists(any_text, min_size=1, max_size=3, unique=True)):
        t = draw(st.none() | st.integers(0, 5) | st.floats(0, 1) | any_text)
        for metric in metrics:
            for seed in draw(st.sets(st.integers(0, 2), max_size=2)):
                value = draw(st.none() | st.floats())
                options = json.dumps({"fork_epoch": t})
                found[method, metric, seed] = row(method, seed, value, metric, options=options, dataset="d", unit="", better="")
    return list(found.values())


def test_numbers_whose_sums_overflow(tmp_path: Path) -> None:
    """The page is made; the board shows the numbers and no axis does."""
    huge = 1.7976931348623157e308
    rows = []
    for metric in ("ensemble_accuracy", "joint_connectivity", "pairwise_curve/0-1/0.0", "pairwise_curve/0-1/0.5"):
        for seed, value in enumerate((huge, -huge, 0.0)):
            rows.append(row("deep", seed, value, metric, dataset="d", unit="", better=""))
    assert Page(page_of(made(tmp_path / "run", rows, events=None))).tags


@given(runs())
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rows(tmp_path: Path, rows: list[Row]) -> None:
    """The page and every file of a figure are well formed."""
    folder = made(tmp_path / "run", rows, events=None)
    assert Page(page_of(folder)).tags
    for path in write_figures(figures_of(folder), tmp_path / "figures"):
        if path.suffix == ".svg":
            ElementTree.parse(path)
        elif path.suffix == ".csv":
            assert len(list(csv.reader(io.StringIO(path.read_text(), newline=""), strict=True))) > 1
