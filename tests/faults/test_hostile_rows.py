"""Rows of strangers in what `leaderboard`, `compare`, `members`, `explain` and `diff` print: any names, any values."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import pty
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli import cli
from harness.errors import UserError
from harness.leaderboard import FORMATS
from harness.results.rows import Row, write_rows
from run_folder import row

NAME = "e\x1b[31mred\r\nb\u202ec\u2028d\x9b2Je\x07f\u200bg\u2066h<b>|`*_$\\{\"'" + "x" * 300
TEXTS = ("title", "symbol", "unit", "options", "metric_version", "method_version", "objective", "warning")
PRINTED = [form for form in FORMATS if form != "csv"]
names = st.text(max_size=12) | st.sampled_from([NAME, "\x1b[2J", "\u202e", "a|b", "=1+1", "-", "", " ", "\ud800"])


def unprintable(text: str) -> list[str]:
    """Return the characters other than line feeds that a terminal may interpret, or that are invisible."""
    found = {character for character in text if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    return sorted(found - {"\n"})


def harness(*words: object) -> Result:
    """Run a command. It ends well, or with an error for the user."""
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, UserError | SystemExit), words
    return done


def run_of(folder: Path, rows: Sequence[Row], facts: dict[str, Any] | None = None) -> Path:
    """Write the folder of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "results.csv", rows)
    if facts is not None:
        (folder / "run.json").write_text(json.dumps(facts))
    return folder


def rows_named(name: str, seeds: int = 7, **changes: Any) -> list[Row]:
    """Return rows of two methods and a failed one, in which every text is a name."""
    texts = {**dict.fromkeys(("benchmark", "dataset", "architecture", "metric", *TEXTS), name), **changes}
    found = [row(f"{name}{method}", seed, 90.0 + seed, **texts) for method in "ab" for seed in range(seeds)]
    return [*found, row(f"{name}c", 0, None, **{**texts, "status": "failed", "message": name})]


@pytest.mark.parametrize("command", ["leaderboard", "compare"])
@pytest.mark.parametrize("form", PRINTED)
def test_control_characters_in_every_text(tmp_path: Path, command: str, form: str) -> None:
    """None is printed in any format but CSV, whose readers get names exactly."""
    done = harness(command, run_of(tmp_path / "run", rows_named(NAME)), "--format", form)
    assert done.exit_code == 0
    assert unprintable(done.output) == []


@pytest.mark.parametrize("command", ["leaderboard", "compare"])
def test_names_in_formats_for_programs(tmp_path: Path, command: str) -> None:
    """CSV and JSON read back to the names of the rows."""
    folder = run_of(tmp_path / "run", rows_named(NAME))
    text = harness(command, folder, "--format", "csv").stdout_bytes.decode()  # `output` has other line breaks
    lines = list(csv.reader(io.StringIO(text, newline="")))
    assert {line[lines[0].index("method")] for line in lines[1:]} <= {f"{NAME}{method}" for method in "abc"}
    assert f"{NAME}b" in {line[lines[0].index("method")] for line in lines[1:]}
    assert json.dumps(NAME + "b") in json.dumps(json.loads(harness(command, folder, "--format", "json").output))


@given(names, st.sampled_from(PRINTED), st.sampled_from(["leaderboard", "compare"]))
@settings(deadline=None, max_examples=60)
def test_any_name(name: str, form: str, command: str) -> None:
    """No name breaks a format or is printed with characters that a terminal interprets."""
    with tempfile.TemporaryDirectory() as folder:
        done = harness(command, run_of(Path(folder), rows_named(name, seeds=2)), "--format", form)
    assert done.exit_code == 0
    assert unprintable(done.output) == []


@pytest.mark.parametrize(
    "words",
    [
        ("leaderboard", "--metrics", "zz\x1b[3m"),
        ("compare", "--baseline", "zz\x1b[3m\u202e"),
        ("compare", "--metric", "zz\x1b[3m\u202e"),
        ("leaderboard", "--format", "zz\x1b[3m"),
    ],
)
def test_unknown_names(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The error is one printable line, although it lists the names of the rows."""
    folder = run_of(tmp_path / "run", rows_named(NAME))
    done = subprocess.run(
        [sys.executable, "-m", "harness", words[0], str(folder), *words[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert unprintable(done.stderr) == []
    assert "Traceback" not in done.stderr


def test_contradicting_rows_with_hostile_names(tmp_path: Path) -> None:
    """The error is one printable line."""
    rows = [row("deep", 0, 90.0, options=NAME), row("deep", 1, 90.0, options=f"{NAME}2")]
    folder = run_of(tmp_path / "run", rows)
    done = subprocess.run([sys.executable, "-m", "harness", "leaderboard", str(folder)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert unprintable(done.stderr) == []


def test_members_with_hostile_names(tmp_path: Path) -> None:
    """`harness members` prints a line per member, and JSON that reads back to the names."""
    member = {"dataset": NAME, "architecture": NAME, "method": NAME, "seed": 0, "member": 0, "object": "ab" * 32}
    facts = {"store": str(tmp_path / "store"), "members": [{**member, "part": "weights", "key": "cd" * 32}]}
    folder = run_of(tmp_path / "run", [], facts)
    shown = harness("members", folder)
    assert shown.stdout.count("\n") == 1
    assert unprintable(shown.output) == []
    as_json = harness("members", folder, "--json")
    assert unprintable(as_json.stdout) == []
    assert json.loads(as_json.stdout)[0]["method"] == NAME


def test_explained_keys_with_hostile_names(tmp_path: Path) -> None:
    """`harness explain` and `harness diff` print no character of a row's names that a terminal interprets."""
    key, cell = "ab" * 32, "cd" * 32
    rows = [
        row(
            NAME, 0, 90.0, **{**dict.fromkeys(("benchmark", "dataset", "architecture", *TEXTS), NAME), "key": key, "cell": cell}
        )
    ]
    setting = [row(NAME, 1, 90.0, setting="ef" * 32, key="12" * 32, cell=cell)]
    folder = run_of(tmp_path / "run", [*rows, *setting], {"store": str(tmp_path / "store"), "benchmark": {"name": NAME}})
    for words in (("explain", key[:8]), ("explain", cell[:8]), ("explain", "ef" * 4), ("diff", cell[:8], "ef" * 4)):
        done = harness(*words, "--run", folder, "--store", tmp_path / "store")
        assert unprintable(done.output) == [], words


@pytest.mark.parametrize("command", ["leaderboard", "compare"])
def test_csv_on_a_terminal(tmp_path: Path, command: str) -> None:
    """A terminal gets no control characters; what is piped is exact."""
    folder = run_of(tmp_path / "run", rows_named(NAME))
    leader, follower = pty.openpty()
    words = [sys.executable, "-m", "harness", command, str(folder), "--format", "csv"]
    with subprocess.Popen(words, stdout=follower) as process:
        os.close(follower)
        printed = b""
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the process has ended
                break
            if not part:
                break
            printed += part
    os.close(leader)
    assert process.returncode == 0
    assert unprintable(printed.decode().replace("\r\n", "\n")) == []
    assert b"\x1b[31mred" in subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout


SITUATIONS: dict[str, list[Row]] = {
    "no rows": [],
    "one seed": [row("a", 0, 1.0), row("b", 0, 2.0)],
    "NaN everywhere": [row(method, seed, math.nan) for method in "ab" for seed in range(7)],
    "infinities": [row(method, seed, (-1) ** seed * math.inf) for method in "ab" for seed in range(7)],
    "overflow": [row(method, seed, (-1) ** seed * 1e308) for method in "ab" for seed in range(7)],
    "underflow": [row(method, seed, seed * 5e-324) for method in "ab" for seed in range(7)],
    "equal values": [row(method, seed, 1.0) for method in "ab" for seed in range(7)],
    "all failed": [row(method, seed, None, status="failed", message="no") for method in "ab" for seed in range(7)],
    "one method": [row("a", seed, float(seed)) for seed in range(3)],
    "200 methods": [row(f"m{method}", seed, float(method + seed)) for method in range(200) for seed in range(2)],
    "largest seeds": [row(method, seed, 1.0) for method in "ab" for seed in (-(2**63), 0, 2**63 - 1)],
    "no seed in common": [row("a", 0, 1.0), row("a", 1, 1.0), row("b", 2, 1.0), row("b", 3, 1.0)],
}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize(("command", "form"), list(itertools.product(["leaderboard", "compare"], FORMATS)))
def test_values_of_any_kind(tmp_path: Path, situation: str, command: str, form: str) -> None:
    """Every format is written, whatever the values, and JSON holds no number that JSON lacks."""
    done = harness(command, run_of(tmp_path / "run", SITUATIONS[situation]), "--format", form)
    assert done.exit_code == 0
    assert done.output.endswith("\n")
    if form == "json":
        json.loads(done.output, parse_constant=_refuse)
    if form == "csv":
        lines = list(csv.reader(io.StringIO(done.output)))
        assert {len(line) for line in lines} == {len(lines[0])}
