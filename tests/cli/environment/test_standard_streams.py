"""Standard streams that are closed, full or not read, and interrupts during imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.command_line import python_path, run_harness
from cli.environment.small_benchmark import COMMAND, LINUX, results


@pytest.mark.parametrize("workers", [1, 2])
def test_closed_streams(folder: Path, finished_run: Path, workers: int) -> None:
    """The run succeeds, and no output for a closed stream ends up in a file."""
    command = f"exec {' '.join(COMMAND)} run small.yaml --workers {workers} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=folder, check=False).returncode == 0
    assert results(folder) == results(finished_run)
    assert (folder / "runs" / "small" / "events.jsonl").read_text().startswith("{")


DESCRIPTORS = """
import os, subprocess, sys
from harness.cli.standard_streams import repair_standard_streams
repair_standard_streams()
file = open("file.txt", "w")
print("hidden"); print("hidden", file=sys.stderr); assert sys.stdin.read() == ""
os.write(2, b"hidden")
subprocess.run([sys.executable, "-c", "import sys; print('hidden', file=sys.stderr)"], check=True)
file.write(str(file.fileno() > 2))
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_files_opened_with_closed_descriptors(tmp_path: Path, closed: str) -> None:
    """No file gets a descriptor from 0 to 2, so output of libraries and other processes does not end up in it."""
    (tmp_path / "try.py").write_text(DESCRIPTORS)
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} try.py {closed}"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file.txt").read_text() == "True"


def test_characters_outside_the_encoding_of_standard_output(finished_run: Path) -> None:
    """The board is printed with escapes for them."""
    done = run_harness("leaderboard", "runs/small", cwd=finished_run, PYTHONIOENCODING="latin-1")
    assert "ensemble_accuracy (%) \\u2191" in done.stdout


UNWRITABLE = {"full": "2>/dev/full", "read-only": "2</dev/null", "nobody reads": "2> >(exec true)"}


@LINUX
@pytest.mark.parametrize("redirection", UNWRITABLE.values(), ids=UNWRITABLE)
def test_standard_error_that_cannot_be_written(finished_run: Path, redirection: str) -> None:
    """Work and exit code do not depend on it."""
    environment = {**os.environ, "HARNESS_DISABLED_PLUGINS": "no_such_plugin"}  # makes the command warn first
    codes = []
    for words in ("check small.yaml", "check missing.yaml"):
        command = f"exec {' '.join(COMMAND)} {words} {redirection}"
        done = subprocess.run(
            ["bash", "-c", command], cwd=finished_run, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        codes.append((done.returncode, "good" in done.stdout))
    assert codes == [(0, True), (2, False)]


def test_interrupt_during_imports(tmp_path: Path) -> None:
    """The command prints no traceback and has the exit code of an interrupted command."""
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    path = python_path(tmp_path)
    done = run_harness("list", cwd=tmp_path, code=130, PYTHONPATH=path)
    assert (done.stdout, done.stderr) == ("", "")
    library = [sys.executable, "-c", "import harness.cli"]
    other = subprocess.run(library, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert "KeyboardInterrupt" in other.stderr


@LINUX
def test_full_disk_behind_standard_output(finished_run: Path) -> None:
    """The command ends with one line."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, "list"], cwd=finished_run, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: standard output cannot be written: No space left on device\n")


def test_closed_pipe_behind_standard_output(finished_run: Path) -> None:
    """The command ends with exit code 141 and prints nothing, as others do before `| head`."""
    process = subprocess.Popen([*COMMAND, "list"], cwd=finished_run, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (141, b"")
