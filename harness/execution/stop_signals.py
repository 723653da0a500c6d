"""The signals that ask a process to save and stop, and the exit codes that say it did."""

from __future__ import annotations

import signal

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM")
STOP_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""SIGUSR1, SIGUSR2 and SIGXCPU are what schedulers (Slurm, LSF, Grid Engine) send some time before they end a job,
SIGALRM what `timeout -s ALRM` and `perl -e 'alarm …; exec …'` send."""

WARNINGS = frozenset(STOP_SIGNALS) - {signal.SIGINT, signal.SIGTERM} - {getattr(signal, "SIGHUP", None)}
"""Those that warn: they may come again and again (SIGXCPU: every second) and before a SIGTERM, so they never insist."""


def asked_to_stop(code: int) -> bool:
    """Say whether a process with this exit code was asked to stop by a signal, and did so."""
    return code - 128 in STOP_SIGNALS


def ended_by_stop_signal(code: int) -> bool:
    """Say whether a process was ended by such a signal, as happens before it handles them (`code` is minus the number)."""
    return -code in STOP_SIGNALS
