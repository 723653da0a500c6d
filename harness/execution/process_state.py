"""Global state of the process that affects results and that a plugin may change."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import torch

from harness.networks.float32 import set_ieee_float32

_MAIN_THREAD = threading.main_thread()  # the only thread that can set signal handlers
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM") if hasattr(signal, name)]
_CUDNN_FLAGS = ("enabled", "benchmark", "deterministic")


class ProcessState:
    """Restores the number of threads, defaults of torch and NumPy, the working folder and signal handlers.

    The number of threads is restored to `threads`; torch's dtype, device and gradient mode to torch's own defaults; the rest to
    the values at construction. Global random generators are not restored, since nothing depends on their state.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._folder = Path.cwd()
        self._numpy_errors = np.geterr()
        self._recursion_limit = sys.getrecursionlimit()
        self._determinism = _determinism()
        self._cudnn = {name: getattr(torch.backends.cudnn, name) for name in _CUDNN_FLAGS}
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self._restore()

    def restore(self) -> None:
        """Restore everything, and set float32 as `harness.networks.float32` defines it."""
        self._restore()
        set_ieee_float32()

    def _restore(self) -> None:
        self._restore_torch()
        np.seterr(**self._numpy_errors)
        sys.setrecursionlimit(self._recursion_limit)
        os.chdir(self._folder)
        if threading.current_thread() is _MAIN_THREAD:
            self._restore_handlers()

    def _restore_torch(self) -> None:
        torch.set_num_threads(self._threads)
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        if torch.empty(0).device.type != "cpu":  # before torch 2.10, get_default_device fails once this was called
            torch.set_default_device(None)
        if _determinism() != self._determinism:  # setting it imports torch's compiler, which takes longer than torch itself
            enabled, warn_only = self._determinism
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        for name, value in self._cudnn.items():
            setattr(torch.backends.cudnn, name, value)

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)


def _determinism() -> tuple[bool, bool]:
    """Return whether torch must use deterministic algorithms, and whether it only warns if there is none."""
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
