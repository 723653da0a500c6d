"""The reader by columns: it reads what the reader by lines reads, or leaves the file to it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.leaderboard import board, render
from harness.results import columns
from harness.results.columns import load_many, read_columns
from harness.results.rows import Row, frame, load_rows, write_rows
from run_folder import KEY, row

ODD = ['a,"b"', "1", "01", "1.0", "NA", "nan", "None", "\n", "x\ny", " a ", "#", "\ufeff", "true"]
texts = st.text(max_size=6) | st.sampled_from(ODD)
numbers = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.1, 1e-320, -0.0, 1e22, 123456789.123456789])


@st.composite
def any_row(draw: st.DrawFn) -> Row:
    """Any valid row of few methods, metrics and seeds."""
    status = draw(st.sampled_from(["done", "failed", "missing"]))
    named = {name: draw(texts) for name in ("unit", "message", "options", "metric_version", "warning", "title", "objective")}
    return Row(
        benchmark=draw(texts),
        dataset=draw(texts),
        architecture=draw(texts),
        method=draw(st.sampled_from(["a", "b"])),
        metric=draw(st.sampled_from(["m", "n"])),
        seed=draw(st.integers(0, 3) | st.sampled_from([-(2**63), 2**63 - 1])),
        value=draw(numbers) if status == "done" else None,
        standard_error=draw(st.none() | numbers),
        better=draw(st.sampled_from(["higher", "lower", ""])),
        main=draw(st.booleans()),
        status=status,
        members=draw(st.integers(0, 5)),
        setting=draw(st.sampled_from(["", KEY])),
        cell=KEY if status == "done" else draw(st.sampled_from(["", KEY])),
        key=KEY if status == "done" else draw(st.sampled_from(["", KEY])),
        **named,
    )


def same(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Return whether two DataFrames have equal columns, types and values, the sign of zero and NaN included."""
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    return bool(repr(first["value"].tolist()) == repr(second["value"].tolist()))


@given(st.lists(any_row(), min_size=1, max_size=5))
@settings(deadline=None, max_examples=150)
def test_any_rows(rows: list[Row]) -> None:
    """They are read as line by line, or left to that reader, which only carriage returns and NUL ask for."""
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder, "results.csv"), rows)
        data = Path(folder, "results.csv").read_bytes()
        read = read_columns(folder)
        if b"\r" in data or b"\0" in data:
            assert read is None
            return
        assert read is not None
        assert same(read, frame(load_rows(folder)))


@given(st.lists(any_row(), max_size=12))
@settings(deadline=None, max_examples=100)
def test_board_of_any_rows(rows: list[Row]) -> None:
    """It is the same from rows and from a DataFrame, or the same rows are refused with the same words."""

    def outcome(given: Any) -> str:
        try:
            return render(board({"run": given}, "all"), "json")
        except UserError as error:
            return str(error)

    assert outcome(rows) == outcome(frame(rows))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("94.43", "94,43"),
        ("94.43", "1_000"),
        ("94.43", ""),
        ("94.43", '"94.43\n"'),
        ("94.43", "0x1p3"),
        ("94.43", "Infinity"),
        ("94.43", " 94.43"),
        ("deep,1", "deep,one"),
        ("deep,1", "deep,1.0"),
        ("deep,1", "deep,9999999999999999999"),
        ("true", "yes"),
        ("done", "ok"),
        ("done", "failed"),
        ("higher", "up"),
        (KEY + ",", "abc,"),
        (KEY + ",", '"' + KEY + '\n",'),
        (",key,", ",other,"),
        (",key,", ",key,key,"),
        (",message,", ",value,"),
        ("cifar10,", '"cifar"10,'),
        ("cifar10,", 'ci"far10,'),
        ("cifar10,", '"cifar10,'),
        ("deep,1", "deep,1\r"),
        ("cifar10,", "cifar\0,"),
        ("cifar10,", "cifar\xff,"),
        ("cifar10,", "\n\ncifar10,"),
    ],
)
def test_line_that_is_not_plain(tmp_path: Path, old: str, new: str) -> None:
    """The file is left to the reader by lines, which says what is wrong, or reads it."""
    path = tmp_path / "results.csv"
    write_rows(path, [row("deep", 0, 94.43), row("deep", 1, 94.43)])
    text = path.read_text()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode("latin-1"))
    assert read_columns(path) is None


@pytest.mark.parametrize("change", ["", "no line break", "only the header", "byte order mark", "nothing", "no file"])
def test_file_that_is_not_plain(tmp_path: Path, change: str) -> None:
    """The file is left to the reader by lines."""
    path = tmp_path / "results.csv"
    write_rows(path, [row("deep", 0, 94.43)])
    data = path.read_bytes()
    changed = {
        "": data,
        "no line break": data[:-1],
        "only the header": data.partition(b"\n")[0] + b"\n",
        "byte order mark": b"\xef\xbb\xbf" + data,
        "nothing": b"",
    }
    path.unlink()
    if change in changed:
        path.write_bytes(changed[change])
    read = read_columns(path)
    assert (read is None) == (change not in ("", "only the header"))
    if read is not None:
        assert same(read, frame(load_rows(path)))


def test_columns_in_another_order(tmp_path: Path) -> None:
    """They have the order of `Row`; unknown ones are left out, and optional ones may be missing."""
    path = tmp_path / "results.csv"
    write_rows(path, [row("deep", 0, 94.43), row("swe", 1, 95.0)])
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["more"] = "x"
    table.drop(columns=["warning", "title"])[sorted(set(table) - {"warning", "title"})].to_csv(path, index=False)
    read = read_columns(path)
    assert read is not None
    assert same(read, frame(load_rows(path)))


def test_large_files(tmp_path: Path) -> None:
    """Files are read by columns if they are large together; an invalid one among them is named with its line."""
    many = [row(f"method {number}", seed, float(seed), options="x" * 400) for number in range(40) for seed in range(140)]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "results.csv", [*many, row(name, 0, 1.0)])
    folders = [tmp_path / "a", tmp_path / "b"]
    assert sum((folder / "results.csv").stat().st_size for folder in folders) > columns.LARGE
    found = load_many(folders)
    assert {type(rows) for rows in found.values()} == {pd.DataFrame}
    assert {type(rows) for rows in load_many(folders[:1]).values()} == {list}
    by_lines = {str(folder): load_rows(folder) for folder in folders}
    assert render(board(found), "json") == render(board(by_lines), "json")
    file = tmp_path / "b" / "results.csv"
    file.write_text(file.read_text().replace(",139,", ",many,", 1))
    with pytest.raises(UserError, match=rf"^{file}:141: seed 'many' is not an integer$"):
        load_many(folders)
    with pytest.raises(UserError, match=r"no results\.csv"):
        load_many([*folders[:1], tmp_path / "absent"])
