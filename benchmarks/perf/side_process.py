"""Run one side of a comparison in a process of its own.

The C library keeps or returns freed memory depending on the history of the process. Two sides in one process slow down or speed
up each other by up to a fifth.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any


class SideProcess:
    """A process that holds a function and runs it once per call.

    The function is the return value of `factory(*arguments)`, where `factory` is a name in a module of this folder. The default
    environment is that of a script that a user starts, with one OpenMP thread.
    """

    def __init__(self, module: str, factory: str, *arguments: Any, environment: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, __file__, module, factory, json.dumps(arguments)]
        if environment is None:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)

    def __call__(self) -> float:
        """Run the function once; return the processor time it took, in seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the other process has ended ({self._process.wait()})")
        return float(answer)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def main(module: str, factory: str, arguments: str) -> None:
    """Create the function, run it once per input line, and answer each line with the seconds.

    Whatever the function prints goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    work = getattr(importlib.import_module(module), factory)(*json.loads(arguments))
    for _ in sys.stdin:
        began = time.process_time()
        work()
        answers.write(f"{time.process_time() - began}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
