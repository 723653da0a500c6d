"""End the command line quietly if Ctrl-C comes while its modules are imported. Imports nothing that a file could replace."""

from __future__ import annotations

import os
import sys
from types import TracebackType

from harness.safe_path import started_as_module

EXIT_CODE = 130


def quiet_interrupts() -> None:
    """Print no traceback for a `KeyboardInterrupt` that nobody catches; do nothing if this process is another program.

    Imports take a large part of a second, before `main` can catch anything.
    """
    if started_as_module() or _started_as_script():
        sys.excepthook = _end_quietly


def _started_as_script() -> bool:
    """Say whether Python runs the installed script `harness` (on Windows: `harness.exe` or `harness-script.py`)."""
    program = os.path.basename(sys.argv[0]) if sys.argv else ""  # noqa: PTH119 - pathlib is not imported yet
    return program in ("harness", "harness.exe", "harness-script.py")


def _end_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        os._exit(EXIT_CODE)
    sys.__excepthook__(kind, error, trace)
