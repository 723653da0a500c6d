"""A side of a race in a process of its own, so that each has its memory as it would have it in earnest.

The C library keeps or gives back memory by the history of the whole process. Two sides in one process make each other slower or
faster by a fifth.
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


class Apart:
    """What `maker(*arguments)` of a module in this folder returns, called in another process whenever this is called.

    The environment is that of a script that a user starts, unless one is given.
    """

    def __init__(self, module: str, maker: str, *arguments: Any, environment: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, __file__, module, maker, json.dumps(arguments)]
        own = {**os.environ, "OMP_NUM_THREADS": "1"} if environment is None else environment
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=own, text=True)

    def __call__(self) -> float:
        """Have it called once; return the seconds of processor time that it took."""
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


def main(module: str, maker: str, arguments: str) -> None:
    """Make the work, then do it whenever a line comes, and answer with the seconds; what the work prints goes elsewhere."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    work = getattr(importlib.import_module(module), maker)(*json.loads(arguments))
    for _ in sys.stdin:
        began = time.process_time()
        work()
        answers.write(f"{time.process_time() - began}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
