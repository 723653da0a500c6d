"""A run's `examples.npz`: written at the end, from the measurements in the store."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import harness
import toys
from conftest import toy_file
from harness.results.examples import Examples
from harness.store import Store

METRICS = [
    "ensemble_accuracy",
    "mean_member_accuracy",
    "joint_connectivity",
    "expected_calibration_error",
    "worst_connectivity",
]
WITH_EXAMPLES = set(METRICS[:3])


def run(folder: Path, **changes: object) -> harness.Run:
    """Run toys in a folder and return the run."""
    file = toy_file(folder, metrics=METRICS, **changes)
    options = {"out": folder / "out", "store": folder / "store", "data": folder, "workers": 1, "progress": False}
    return harness.run(file, catalogue=toys.catalogue(), **options)


def test_contributions_of_a_run(tmp_path: Path) -> None:
    """Each mean over images has an array under its row's key, whose mean is the value; other metrics have none."""
    rows = run(tmp_path).rows
    found = Examples(tmp_path / "out")
    main = rows[rows.main & (rows.unit != "epochs")]
    assert len(main) == 2 * len(METRICS)
    for row in main.itertuples():
        array = found.read(row.key, row.unit)
        assert (array is not None) == (row.metric in WITH_EXAMPLES)
        if array is not None:
            assert array.shape == (64,)
            assert array.mean() == pytest.approx(row.value, abs=1e-4)
    with np.load(tmp_path / "out" / "examples.npz") as loaded:
        accuracy = main[main.metric == "ensemble_accuracy"].key
        assert {loaded[key].dtype for key in accuracy} == {np.dtype(np.bool_)}


def test_second_run(tmp_path: Path) -> None:
    """A run that measures nothing leaves the file as it is; one whose file is lost or damaged writes the same bytes."""
    run(tmp_path)
    path = tmp_path / "out" / "examples.npz"
    before, written = path.read_bytes(), path.stat().st_mtime_ns
    run(tmp_path)
    assert path.stat().st_mtime_ns == written
    for content in (None, b"damaged"):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        run(tmp_path)
        assert path.read_bytes() == before


def test_more_seeds(tmp_path: Path) -> None:
    """The file of a run that is continued with more seeds is that of a run with all of them."""
    run(tmp_path)
    run(tmp_path, seeds=[0, 1])
    path = tmp_path / "out" / "examples.npz"
    continued = path.read_bytes()
    path.unlink()
    run(tmp_path, seeds=[0, 1])
    assert path.read_bytes() == continued


def test_old_measurements(tmp_path: Path) -> None:
    """Rows of measurements that were stored without contributions have none, and there is no file if none has."""
    rows = run(tmp_path).rows
    store = Store(tmp_path / "store")
    path = tmp_path / "out" / "examples.npz"
    old = set(rows[(rows.metric == "joint_connectivity")].key)
    for key in set(rows.key) & Examples(path).keys:
        meta = {name: value for name, value in store.meta(key).items() if name not in ("key", "files")}
        if key in old:
            shutil.rmtree(store.path(key, "examples").parent)
            store.put(key, meta)
    run(tmp_path)
    keys = Examples(path).keys
    assert keys
    assert not keys & old


def test_damaged_contributions(tmp_path: Path) -> None:
    """A damaged array is left out and its measurement quarantined; the next run measures it again."""
    rows = run(tmp_path).rows
    path = tmp_path / "out" / "examples.npz"
    before = path.read_bytes()
    key = rows[rows.metric == "joint_connectivity"].key.iloc[0]
    part = Store(tmp_path / "store").path(key, "examples")
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    path.unlink()
    run(tmp_path)
    assert key not in Examples(path).keys
    run(tmp_path)
    assert path.read_bytes() == before
