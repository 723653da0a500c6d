"""Signals that ask a process to save and stop, and the exit codes of processes that were stopped by them."""

from __future__ import annotations

import signal

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM")
STOP_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""Schedulers (Slurm, LSF, Grid Engine) send SIGUSR1, SIGUSR2 or SIGXCPU some time before they end a job.

`timeout -s ALRM` and `perl -e 'alarm …; exec …'` send SIGALRM.
"""

WARNINGS = frozenset(STOP_SIGNALS) - {signal.SIGINT, signal.SIGTERM} - {getattr(signal, "SIGHUP", None)}
"""Signals that announce the end of a job. They may repeat (SIGXCPU: every second), so a second one does not force an exit."""


def asked_to_stop(code: int) -> bool:
    """Return whether an exit code says that the process stopped in order after a stop signal (128 + its number)."""
    return code - 128 in STOP_SIGNALS


def ended_by_stop_signal(code: int) -> bool:
    """Return whether a stop signal killed the process (`code` is minus its number): it had no handler installed yet."""
    return -code in STOP_SIGNALS
