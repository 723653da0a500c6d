"""Rows in results.csv and in a DataFrame: read back exactly, and a damaged file is an error with its line."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.results.csv_file import read_table
from harness.results.rows import COLUMNS, Row, frame, read_rows, rows_of, write_rows

KEY = "0123456789abcdef" * 4
SETTING = "5e" * 32


def row(**changes: Any) -> Row:
    """Return a done row with some fields changed."""
    fields: dict[str, Any] = {
        "benchmark": "paper",
        "dataset": "cifar10",
        "architecture": "resnet20",
        "method": "deep",
        "seed": 0,
        "metric": "ensemble_accuracy",
        "value": 94.43,
        "unit": "percent",
        "better": "higher",
        "members": 5,
        "metric_version": "ensemble_accuracy@1",
        "method_version": "deep@1",
        "objective": "cross_entropy@1",
        "options": '{"fork_epoch":10}',
        "setting": SETTING,
        "cell": KEY,
        "key": KEY[::-1],
    }
    return Row(**{**fields, **changes})


def written(tmp_path: Path, *rows: Row) -> Path:
    """Write a file of these rows and return its path."""
    path = tmp_path / "results.csv"
    write_rows(path, rows)
    return path


def damaged(tmp_path: Path, old: str, new: str) -> Path:
    """Write a file of two rows with `old` replaced by `new`, and return its path."""
    path = written(tmp_path, row(), row(seed=1))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


# The file


def test_first_seven_columns():
    """They never change, since other programs read them."""
    assert COLUMNS[:7] == ("benchmark", "dataset", "architecture", "method", "seed", "metric", "value")


def test_documented_columns():
    """`docs/board.md` describes all columns in their order."""
    text = (Path(__file__).parents[1] / "docs" / "board.md").read_text(encoding="utf-8")
    table = text[text.index("| column |") : text.index("The first seven columns")]
    described: list[str] = []
    for line in table.splitlines()[2:]:
        if line.startswith("|"):
            described += re.findall(r"`(\w+)`", line.split("|")[1])
    assert tuple(described) == COLUMNS


def test_file_of_one_row(tmp_path):
    """The file has a header and a line in the documented format."""
    head, line = written(tmp_path, row()).read_bytes().decode().removesuffix("\n").split("\n")
    assert head == ",".join(COLUMNS)
    assert line == (
        "paper,cifar10,resnet20,deep,0,ensemble_accuracy,94.43,,percent,higher,true,done,,5,ensemble_accuracy@1,"
        f'"{{""fork_epoch"":10}}",{SETTING},{KEY},{KEY[::-1]},deep@1,cross_entropy@1,,,'
    )


def test_order_of_rows(tmp_path):
    """Rows are read in the order in which they were written."""
    seeds = [3, 1, 2]
    assert list(read_rows(written(tmp_path, *(row(seed=s) for s in seeds)))["seed"]) == seeds


def test_path_of_a_folder(tmp_path):
    """`read_rows` accepts a run's folder or its file."""
    path = written(tmp_path, row())
    pd.testing.assert_frame_equal(read_rows(tmp_path), read_rows(path))


def test_file_without_rows(tmp_path):
    """The DataFrame is empty and has typed columns."""
    empty = read_rows(written(tmp_path))
    assert len(empty) == 0
    assert tuple(empty.columns) == COLUMNS
    assert empty["value"].dtype == "float64"


@pytest.mark.parametrize(
    "text",
    ["a,b", 'he said "no"', "two\nlines", "carriage\rreturn", "both\r\n", "=1+1", " space ", "β 🐳 \u2028 \x00 \x85", "'", ""],
)
def test_text_with_special_characters(tmp_path, text):
    """Commas, quotes, line breaks and any character of UTF-8 are read back exactly."""
    rows = [row(method=text, message=text, benchmark=text)]
    assert rows_of(read_rows(written(tmp_path, *rows))) == rows


def test_field_longer_than_the_limit_of_the_csv_module(tmp_path):
    """A field of more than 131072 characters is read back."""
    rows = [row(value=None, status="failed", message="x" * 200_000)]
    assert rows_of(read_rows(written(tmp_path, *rows))) == rows


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-320, -0.0, 94.0, 1.7976931348623157e308, math.inf, -math.inf])
def test_digits_of_numbers(tmp_path, value):
    """Numbers are read back to the last bit."""
    back = read_rows(written(tmp_path, row(value=value, standard_error=abs(value))))
    assert repr(float(back["value"][0])) == repr(value)
    assert back["standard_error"][0] == abs(value)


def test_numpy_numbers(tmp_path):
    """They are written as plain numbers; a metric may return them."""
    import numpy as np

    back = read_rows(written(tmp_path, row(value=np.float32(0.5), seed=np.int64(2), main=np.bool_(False))))
    assert (back["value"][0], back["seed"][0], bool(back["main"][0])) == (0.5, 2, False)


def test_nan_and_no_value(tmp_path):
    """The row of a NaN is done, and a failed row has no value; in the DataFrame the status distinguishes them."""
    path = written(tmp_path, row(value=math.nan), row(seed=1, value=None, status="failed", message="diverged"))
    assert ",nan," in path.read_text()
    nan, failed = rows_of(read_rows(path))
    assert nan.status == "done"
    assert nan.value is not None
    assert math.isnan(nan.value)
    assert failed.value is None


def test_text_that_utf8_cannot_encode(tmp_path):
    """It is written as an escape; a message may hold a file name that is no text."""
    back = read_rows(written(tmp_path, row(value=None, status="failed", message="cannot open \udcff")))
    assert back["message"][0] == "cannot open \\udcff"


def test_columns_in_another_order_and_unknown_ones(tmp_path):
    """Columns are found by name, and unknown ones are ignored."""
    path = written(tmp_path, row())
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.assign(later="x")[["later", *reversed(COLUMNS)]].to_csv(path, index=False)
    assert rows_of(read_rows(path)) == [row()]


def test_missing_optional_columns(tmp_path):
    """A file of an older run is read; the fields are empty."""
    path = written(tmp_path, row())
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.drop(columns=["method_version", "objective", "warning", "title", "symbol"]).to_csv(path, index=False)
    assert rows_of(read_rows(path)) == [row(method_version="", objective="")]


def test_file_saved_by_a_spreadsheet(tmp_path):
    """A byte order mark, CRLF and blank lines are accepted."""
    path = written(tmp_path, row())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert rows_of(read_rows(path)) == [row()]


texts = st.text(max_size=8)
keys = st.text("0123456789abcdef", min_size=64, max_size=64)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """Any valid row."""
    status = draw(st.sampled_from(["done", "failed", "missing"]))
    numbers = st.floats(allow_nan=False)
    names = {name: draw(texts) for name in ("benchmark", "dataset", "architecture", "method", "metric", "unit", "message")}
    return Row(
        **names,
        seed=draw(st.integers(-(2**63), 2**63 - 1)),
        value=draw(numbers) if status == "done" else None,
        standard_error=draw(st.none() | numbers),
        better=draw(st.sampled_from(["higher", "lower", ""])),
        main=draw(st.booleans()),
        status=status,
        members=draw(st.integers(0, 1000)),
        metric_version=draw(texts),
        options=draw(texts),
        setting=draw(st.just("") | keys),
        cell=draw(keys),
        key=draw(keys),
    )


@given(st.lists(rows(), max_size=4))
@settings(deadline=None, max_examples=60)
def test_any_rows(some):
    """Writing and reading is the identity, on disk and through the DataFrame."""
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder, "results.csv"), some)
        assert rows_of(read_rows(folder)) == some
    assert rows_of(frame(some)) == some


# What is refused


def test_folder_without_results(tmp_path):
    """The message says which folder to name."""
    with pytest.raises(UserError) as error:
        read_rows(tmp_path)
    assert str(error.value) == f"{tmp_path}: no results.csv; name a folder that `harness run FILE --out DIR` has written"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("94.43", "94,43", ":2: 25 fields, the header has 24; was the file cut short?"),
        ("94.43", "'94.43", ':2: value "\'94.43" is not a number'),
        ("94.43", "1_000", ":2: value '1_000' is not a number"),
        ("94.43", '"94,43"', ":2: value '94,43' is not a number; with a decimal point it is 94.43"),
        ("94.43", "", ":2: a done row needs a value"),
        ("deep,1", "deep,one", ":3: seed 'one' is not an integer"),
        ("deep,1", "deep,1.0", ":3: seed '1.0' is not an integer"),
        ("deep,1", "deep,9999999999999999999", ":3: seed 9999999999999999999 does not fit in 64 bits"),
        ("true", "yes", ":2: main 'yes' is neither true nor false"),
        ("done", "ok", ":2: status 'ok' is none of done, failed, missing"),
        ("done", "failed", ":2: a failed row has no value, not 94.43"),
        ("higher", "up", ":2: better 'up' is none of higher, lower and nothing"),
        (KEY + ",", "abc,", ":2: cell 'abc' is not 64 hexadecimal digits"),
        (SETTING + ",", "abc,", ":2: setting 'abc' is not 64 hexadecimal digits"),
        (",key,", ",other,", f":1: no column 'key'; needed: {', '.join(COLUMNS[:-5])}"),
        (",message,", ",value,", f":1: no column 'message'; needed: {', '.join(COLUMNS[:-5])}"),
        (",key,", ",key,key,", ":1: column 'key' stands there twice; name it once"),
        ("cifar10,", '"cifar"10,', ":2: not CSV: ',' expected after '\"'; was the file cut short?"),
    ],
)
def test_invalid_line(tmp_path, old, new, message):
    """The error gives path, line and what is wrong."""
    path = damaged(tmp_path, old, new)
    with pytest.raises(UserError) as error:
        read_rows(path)
    assert str(error.value) == f"{path}{message}"


@pytest.mark.parametrize(("separator", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators(tmp_path, separator, word):
    """The error says what separates the fields, as some spreadsheets save them."""
    path = damaged(tmp_path, ",", separator)
    path.write_text(path.read_text().replace(",", separator))
    with pytest.raises(UserError) as error:
        read_rows(path)
    assert str(error.value) == f"{path}:1: no column 'benchmark'; its fields are separated by {word}: save the file with commas"


def test_flags_of_spreadsheets(tmp_path):
    """Capitals, which spreadsheets write, are the same as small letters."""
    path = damaged(tmp_path, "true", "TRUE")
    assert list(read_rows(path)["main"])[:1] == [True]


def test_invalid_line_after_a_field_with_a_line_break(tmp_path):
    """The line number is that of a text editor."""
    path = written(tmp_path, row(message="two\nlines", value=None, status="failed"), row(seed=1))
    path.write_text(path.read_text().replace("94.43", "x"))
    with pytest.raises(UserError, match=r"results\.csv:4: value 'x' is not a number"):
        read_rows(path)


def test_file_cut_short(tmp_path):
    """It is an error, however many bytes of the last line are missing."""
    path = written(tmp_path, row(), row(seed=1, value=None, status="failed", message='a, "b"\nc'))
    whole = path.read_bytes()
    start = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    for end in range(start + 1, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"results\.csv:[34]: .*was the file cut short\?$"):
            read_rows(path)


def test_empty_file(tmp_path):
    """The error lists the needed columns."""
    path = tmp_path / "results.csv"
    path.touch()
    with pytest.raises(UserError, match=r"results\.csv:1: the file is empty; its first line must name the columns benchmark, "):
        read_rows(path)


def test_bytes_that_are_no_text(tmp_path):
    """The error gives the line of the first invalid byte."""
    path = written(tmp_path, row())
    path.write_bytes(path.read_bytes().replace(b"resnet20", b"resnet\xff"))
    with pytest.raises(UserError, match=r"results\.csv:2: not UTF-8 text; save the file as UTF-8$"):
        read_rows(path)


def test_table_that_is_a_folder(tmp_path):
    """The error gives the system's reason."""
    with pytest.raises(UserError, match=r": cannot be read: Is a directory$"):
        read_table(tmp_path, ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "ok"}, "status 'ok' is none of done, failed, missing"),
        ({"value": None}, "a done row needs a value"),
        ({"status": "missing"}, "a missing row has no value, not 94.43"),
        ({"key": ""}, "key '' is not 64 hexadecimal digits"),
        ({"setting": KEY[1:]}, f"setting '{KEY[1:]}' is not 64 hexadecimal digits"),
        ({"cell": KEY.upper()}, f"cell '{KEY.upper()}' is not 64 hexadecimal digits"),
        ({"seed": 2**63}, "seed 9223372036854775808 does not fit in 64 bits"),
    ],
)
def test_invalid_row(changes, message):
    """The constructor raises an error."""
    with pytest.raises(ValueError) as error:
        row(**changes)
    assert str(error.value) == message


def test_row_without_a_setting():
    """It is valid."""
    assert row(setting="").setting == ""


def test_row_without_keys():
    """It is valid if it is not done: a cell whose builder raised an error has no keys."""
    assert row(status="failed", value=None, cell="", key="").key == ""


def test_import():
    """Importing the rows and the leaderboard imports neither torch nor pandas."""
    code = "import sys, harness.results.rows, harness.leaderboard; print({'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
