"""Stop signals: first, second and ignored ones, and their exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from harness.execution.stop_signals import STOP_SIGNALS, asked_to_stop, ended_by_stop_signal
from harness.execution.stopping import Stopper

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGUSR1": 138, "SIGUSR2": 140, "SIGXCPU": 152, "SIGALRM": 142}
TWICE = """
import os, signal, sys, time
from harness.execution.stopping import Stopper
with Stopper() as stopper:
    for name in sys.argv[1:]:
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(0.01)
sys.exit(stopper.exit_code)
"""


@pytest.mark.parametrize("name", CODES)
def test_stop_signal(name: str) -> None:
    """It sets the flag and the exit code; after the block the handler is the previous one."""
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with Stopper(quiet=True) as stopper:
            assert not stopper.stopping()
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            assert stopper.stopping()
        assert stopper.exit_code == CODES[name]
        assert asked_to_stop(stopper.exit_code)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(("number", "quiet"), [(number, False) for number in STOP_SIGNALS] + [(signal.SIGUSR1, True)])
def test_ignored_signal(number: int, quiet: bool) -> None:
    """It stays ignored, as after `nohup`, in a background job, or after a scheduler's `trap '' USR1`."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Stopper(quiet=quiet) as stopper:
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            assert not stopper.stopping()
    finally:
        signal.signal(number, before)


def test_worker_with_sigterm_ignored() -> None:
    """SIGTERM sets the flag all the same, since an engine ends its workers with it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Stopper(quiet=True) as stopper:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            assert stopper.stopping()
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("names", "code", "message"),
    [
        (("SIGTERM", "SIGTERM"), 143, "stopped at once"),
        (("SIGINT", "SIGTERM"), 143, "stopped at once"),
        (("SIGXCPU", "SIGXCPU", "SIGXCPU"), 152, ""),
        (("SIGUSR1", "SIGTERM"), 138, ""),
        (("SIGUSR1", "SIGTERM", "SIGTERM"), 143, "stopped at once"),
        (("SIGTERM", "SIGUSR2"), 143, ""),
    ],
)
def test_second_signal(names: tuple[str, ...], code: int, message: str) -> None:
    """A second stop signal ends the process at once; a scheduler's warning, and the first signal after it, do not."""
    done = subprocess.run([sys.executable, "-c", TWICE, *names], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert bool(message) == ("at once;" in done.stderr.replace("to stop at once\n", ""))


def test_exit_codes_without_a_stop_signal() -> None:
    """An exit of a plugin, a crash and the kernel's out-of-memory killer are no requests to stop."""
    assert not any(asked_to_stop(code) for code in (0, 1, 2, 127, 128 + signal.SIGKILL, -signal.SIGTERM, -signal.SIGKILL))
    assert ended_by_stop_signal(-signal.SIGUSR1)
    assert not any(ended_by_stop_signal(code) for code in (0, 1, signal.SIGTERM, -signal.SIGKILL, -signal.SIGSEGV))
