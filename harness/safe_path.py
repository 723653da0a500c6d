"""Keep the working folder out of `sys.path`. Imports nothing that a file there could replace."""

from __future__ import annotations

import os
import sys


def drop_working_folder() -> None:
    """Undo that `python -m harness` puts the working folder first on `sys.path`; do nothing if Python was started otherwise.

    A file `random.py` or `numpy.py` beside the benchmark file would be imported in place of the library. What the user puts on
    PYTHONPATH, the working folder too, has an entry of its own and stays.
    """
    if not started_as_module() or sys.flags.safe_path or not sys.path:
        return
    try:
        working_folder = os.getcwd()  # noqa: PTH109 - pathlib is not imported yet, and a file could replace it
    except OSError:
        return
    if sys.path[0] in ("", working_folder):
        del sys.path[0]


def started_as_module() -> bool:
    """Say whether Python is about to run `-m harness`: it imports the package first, and calls the program `-m` until then."""
    if not sys.argv or sys.argv[0] != "-m":
        return False
    interpreter_arguments = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    return interpreter_arguments[-1] == "harness" or interpreter_arguments[-1].endswith("mharness")


def interpreter_arguments() -> list[str]:
    """Return the arguments that start another Python as this one was started, but always in safe-path mode (`-P`).

    In that mode the working folder is no place to import from; PYTHONPATH is.
    """
    flags = sys.flags
    letters = {
        "-I": flags.isolated,
        "-E": flags.ignore_environment and not flags.isolated,
        "-s": flags.no_user_site and not flags.isolated,
        "-S": flags.no_site,
        "-B": flags.dont_write_bytecode,
    }
    arguments = ["-P", *(letter for letter, given in letters.items() if given)]
    arguments += ["-O"] * flags.optimize
    arguments += ["-b"] * flags.bytes_warning
    for filter_ in sys.warnoptions:
        arguments += ["-W", filter_]
    for name, value in sys._xoptions.items():
        arguments += ["-X", name if value is True else f"{name}={value}"]
    return arguments
