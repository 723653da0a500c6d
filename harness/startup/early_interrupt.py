"""End the command line without a traceback if Ctrl-C is pressed during its imports.

Imports nothing that a file in the working folder could replace.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType

from harness.startup.safe_path import started_as_module

EXIT_CODE = 130


def quiet_interrupts() -> None:
    """Exit without a traceback on an uncaught `KeyboardInterrupt`; do nothing if this process runs another program.

    The imports take a large part of a second. Only after them can `main` catch anything.
    """
    if started_as_module() or _started_as_script():
        sys.excepthook = _end_quietly


def _started_as_script() -> bool:
    """Return whether Python runs the installed script `harness` (on Windows `harness.exe` or `harness-script.py`)."""
    program = os.path.basename(sys.argv[0]) if sys.argv else ""  # noqa: PTH119 - pathlib is not imported yet
    return program in ("harness", "harness.exe", "harness-script.py")


def _end_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        os._exit(EXIT_CODE)
    sys.__excepthook__(kind, error, trace)
