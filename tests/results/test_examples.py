"""`examples.npz`: the contributions of test images to measured values."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness.errors import UserError
from harness.results.examples import Examples, decode_examples, encode_examples, write_examples

KEYS = ("ab" * 32, "cd" * 32)


@pytest.mark.parametrize(
    ("values", "unit", "dtype"),
    [
        ([0.0, 100.0, 100.0], "percent", np.bool_),
        ([0.0, 1.0, 1.0], "", np.bool_),
        ([0.0, 1.0, 1.0], "percent", np.float32),
        ([0.0, 100.0], "nats", np.float32),
        ([0.25, -3.0, 100.0], "percent", np.float32),
        ([0.0, 0.0], "percent", np.bool_),
    ],
)
def test_encoding(values: list[float], unit: str, dtype: type):
    """Contributions of 0 and the full one are bits, others float32; both are read back in the row's unit."""
    encoded = encode_examples(np.array(values), unit)
    assert encoded is not None
    assert encoded.dtype == dtype
    assert decode_examples(encoded, unit).tolist() == values


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_float32_lacks(value: float):
    """They have no encoding."""
    assert encode_examples(np.array([1.0, value]), "nats") is None


def test_file(tmp_path: Path):
    """NumPy opens the file, and arrays are found under the keys of measurements."""
    path = tmp_path / "examples.npz"
    bits, numbers = np.array([True, False, True]), np.array([0.5, 1.5, 2.5], np.float32)
    write_examples(path, zip(KEYS, (bits, numbers)))
    with np.load(path) as loaded:
        assert list(loaded) == [*KEYS]
        assert loaded[KEYS[0]].tolist() == [True, False, True]
    found = Examples(tmp_path)
    assert found.keys == set(KEYS)
    bits_read, numbers_read = found.read(KEYS[0], "percent"), found.read(KEYS[1], "nats")
    assert bits_read is not None
    assert numbers_read is not None
    assert bits_read.tolist() == [100, 0, 100]
    assert numbers_read.tolist() == [0.5, 1.5, 2.5]
    assert found.read("ef" * 32, "") is None


def test_same_arrays_give_the_same_bytes(tmp_path: Path):
    """The file has no time in it."""
    for name in ("first", "second"):
        write_examples(tmp_path / name, [(KEYS[0], np.arange(1000, dtype=np.float32))])
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_error_while_writing(tmp_path: Path):
    """The old file stays, and nothing is left beside it."""
    path = tmp_path / "examples.npz"
    write_examples(path, [(KEYS[0], np.ones(3, np.float32))])

    def failing():
        yield KEYS[1], np.ones(3, np.float32)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_examples(path, failing())
    assert Examples(path).keys == {KEYS[0]}
    assert [entry.name for entry in tmp_path.iterdir()] == ["examples.npz"]


def test_folder_that_is_not_there(tmp_path: Path):
    """The error names the file."""
    with pytest.raises(UserError, match=r"examples\.npz: cannot be written: No such file or directory; name a file in a"):
        write_examples(tmp_path / "missing" / "examples.npz", [])


def test_missing_file(tmp_path: Path):
    """It holds nothing."""
    assert Examples(tmp_path).keys == frozenset()
    assert Examples(tmp_path).read(KEYS[0], "") is None


def test_damaged_file(tmp_path: Path):
    """The error says what to do: cut short, no archive, a folder, and a damaged array."""
    path = tmp_path / "examples.npz"
    write_examples(path, [(KEYS[0], np.random.default_rng(0).random(5000).astype(np.float32))])
    whole = path.read_bytes()
    for content in (whole[:-30], b"", b"no archive"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot be read: .*; run the benchmark again to write it anew, or remove it$"):
            Examples(path)
    path.write_bytes(whole[:1000] + bytes(100) + whole[1100:])
    with pytest.raises(UserError, match=r"cannot be read: .*; run the benchmark again"):
        Examples(path).read(KEYS[0], "")


def test_foreign_arrays(tmp_path: Path):
    """Pickled objects and arrays of other types or shapes are refused; other names are ignored."""
    path = tmp_path / "examples.npz"
    np.savez(path, **{KEYS[0]: np.zeros((2, 2), np.float32), KEYS[1]: np.array([1, "x"], dtype=object), "other": np.zeros(1)})
    found = Examples(path)
    assert found.keys == set(KEYS)
    with pytest.raises(UserError, match=r"abababababab is float32 \(2, 2\); bool or float32 \(images,\) is expected$"):
        found.read(KEYS[0], "")
    with pytest.raises(UserError, match="cannot be read: Object arrays cannot be loaded"):
        found.read(KEYS[1], "")


def test_arrays_are_read_one_at_a_time(tmp_path: Path):
    """The file is an archive with one member per array, so that a reader loads what it needs."""
    path = tmp_path / "examples.npz"
    write_examples(path, ((f"{number:064x}", np.zeros(10, np.bool_)) for number in range(500)))
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 500
    assert len(Examples(path).keys) == 500
