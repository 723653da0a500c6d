"""Options and arguments that the command line does not have: one line, as for every mistake of a user."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.command_line import run_harness


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["plan", "b.yaml", "--workers", "0"],
            "--workers: 0 is not in the range 1<=x<=1000000; `harness plan --help` says what is allowed",
        ),
        (
            ["verify", "b", "--workers", "2.5"],
            "--workers: '2.5' is not an integer; `harness verify --help` says what is allowed",
        ),
        (
            ["report", "r", "--format", "gif"],
            "--format: 'gif' is not one of 'pdf', 'svg', 'png'; `harness report --help` says what is allowed",
        ),
        (["publish", "r"], "missing option '--to'; `harness publish --help` says what is allowed"),
        (["report"], "missing argument 'DIR...'; `harness report --help` says what is allowed"),
        (["doctor", "x\x1b[31m"], "got unexpected extra argument (x\\x1b[31m); `harness doctor --help` says what is allowed"),
    ],
)
def test_words_that_are_not_allowed(tmp_path: Path, words: list[str], expected: str) -> None:
    """The line names the option, its value and what is allowed, or the help that says so."""
    done = run_harness(*words, cwd=tmp_path, code=2)
    assert done.stdout == ""
    assert done.stderr == f"error: {expected}\n"


def test_no_command(tmp_path: Path) -> None:
    """Without a command, the help is printed as it is."""
    assert run_harness(cwd=tmp_path, code=2).stderr.startswith("Usage: harness [OPTIONS] COMMAND [ARGS]...\n\n  Compare")
