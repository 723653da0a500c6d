"""Keep the working folder out of `sys.path`. Imports nothing that a file in it could replace."""

from __future__ import annotations

import os
import sys


def drop_working_folder() -> None:
    """Remove the working folder from `sys.path`, where `python -m harness` puts it; do nothing for other ways to start.

    Otherwise a file `random.py` or `numpy.py` in the working folder would be imported instead of the library. The folders in
    PYTHONPATH have entries of their own and stay, the working folder included.
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
    """Return whether Python is about to run `-m harness`: during the import of the package `sys.argv[0]` is `-m`."""
    if not sys.argv or sys.argv[0] != "-m":
        return False
    interpreter_arguments = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    return interpreter_arguments[-1] == "harness" or interpreter_arguments[-1].endswith("mharness")


def interpreter_arguments() -> list[str]:
    """Return the arguments that start another Python as this one was started, but always in safe-path mode (`-P`).

    In that mode Python does not import from the working folder, but still from PYTHONPATH.
    """
    flags = sys.flags
    is_set = {
        "-I": flags.isolated,
        "-E": flags.ignore_environment and not flags.isolated,
        "-s": flags.no_user_site and not flags.isolated,
        "-S": flags.no_site,
        "-B": flags.dont_write_bytecode,
    }
    arguments = ["-P"]
    arguments += [argument for argument, given in is_set.items() if given]
    arguments += ["-O"] * flags.optimize
    arguments += ["-b"] * flags.bytes_warning
    for filter_ in sys.warnoptions:
        arguments += ["-W", filter_]
    for name, value in sys._xoptions.items():
        option = name
        if value is not True:
            option = f"{name}={value}"
        arguments += ["-X", option]
    return arguments
