"""Run a command with a time limit, in a process group that ends with this process. Imports the standard library alone.

As a script, this module is the watcher between both: it runs a command in its own process group, and kills the group when its
standard input ends. So a command does not outlive the process that started it, even if that process was killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

KEPT_BYTES = 2**20
"""Of a command's output, so much of the beginning is kept, and a sixteenth of it of the end."""

_GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Ending:
    """How a command ended. `code` is its exit code, 128 + N after signal N; `timed_out` says that its limit was reached."""

    code: int
    timed_out: bool
    seconds: float
    last_line: str


def run_limited(
    command: Sequence[str], environment: Mapping[str, str], output: Path, limit: float, meanwhile: Callable[[], None]
) -> Ending:
    """Run a command; append its output to a file as it comes; end it after `limit` seconds, first by SIGTERM.

    `meanwhile` is called now and then while the command runs.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, __file__, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        process_group=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    copier = OutputCopier(process.stdout, output)
    copier.start()
    timed_out = False
    while process.poll() is None:
        time.sleep(_POLL_SECONDS)
        meanwhile()
        if time.monotonic() - began > limit:
            timed_out = True
            _end(process)
    process.stdin.close()
    copier.join(timeout=5)  # a process that the command has left behind may hold the pipe open
    return Ending(process.returncode, timed_out, time.monotonic() - began, copier.finish())


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command's process group: by SIGTERM, after a while by SIGKILL."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class OutputCopier(threading.Thread):
    """Copies a pipe to the end of a file. Of a long output, the middle is left out."""

    def __init__(self, pipe: IO[bytes], path: Path) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._path = path
        self._written = 0
        self._left_out = 0
        self._tail = b""

    def run(self) -> None:
        """Copy until the pipe ends, and close it."""
        with self._pipe, self._path.open("ab", buffering=0) as file:
            while chunk := os.read(self._pipe.fileno(), 2**16):
                self._tail = (self._tail + chunk)[-KEPT_BYTES // 16 :]
                kept = chunk[: KEPT_BYTES - self._written]
                file.write(kept)
                self._written += len(kept)
                self._left_out += len(chunk) - len(kept)

    def finish(self) -> str:
        """Append the end of an output that was too long; return the last line that is not empty."""
        if self._left_out:
            with self._path.open("ab") as file:
                file.write(f"\n[…: of {self._left_out} bytes the last {len(self._tail)}]\n".encode() + self._tail)
        lines = self._tail.decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else ""


def watch(command: Sequence[str]) -> int:
    """Run a command; return its exit code. Kill the process group when standard input ends."""
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # it goes to the whole group: the command decides when to end
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_kill_group_at_end_of_input, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _kill_group_at_end_of_input() -> None:
    os.read(0, 1)  # nothing is ever written: this returns when the starting process has ended
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(watch(sys.argv[1:]))
