"""The run's side of its client of Ray: starts the process, writes orders, and reads reports in a thread."""

from __future__ import annotations

import contextlib
import importlib.util
import queue
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from harness import HarnessError, UserError, engines
from harness_ray.protocol import ClientSettings, Order, Report

_CONNECT_SECONDS = 180.0
_CLOSE_SECONDS = engines.GRACE_SECONDS + 20.0


class ClientProcess:
    """A client of Ray. After `listen`, each report is passed to a function in a thread, and None if the client is lost.

    Raise `UserError` if Ray is not installed or there is no connection to a cluster.
    """

    def __init__(self, python: list[str], settings: ClientSettings, log: Path) -> None:
        if importlib.util.find_spec("ray") is None:
            raise UserError("engine 'ray': the package ray is not installed; pip install 'basin-harness[ray]'")
        self.log = log
        self._on_report: Callable[[Report | None], None] | None = None
        self._listening = threading.Event()
        self._first: queue.Queue[Report | None] = queue.Queue()
        self._lock = threading.Lock()
        self._closing = False
        pipe = subprocess.PIPE
        command = [*python, "-m", "harness_ray.client"]
        with self.log.open("ab") as errors:
            try:
                self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, start_new_session=True)
            except OSError as error:
                raise HarnessError(f"the client of Ray cannot be started: {python[0]}: {error.strerror or error}") from None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self._write(settings.to_json())
        self.connected = self._wait_for_connection()

    def listen(self, on_report: Callable[[Report | None], None]) -> None:
        """Call a function with each report from now on."""
        self._on_report = on_report
        self._listening.set()

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def order(self, order: Order) -> None:
        """Write an order. Orders to a client that has ended are lost; the end is reported."""
        self._write(order.to_json())

    def close(self) -> None:
        """Let the client end its workers, and end."""
        self._closing = True
        self._listening.set()
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join(timeout=10)

    def last_words(self) -> str:
        """Return the last line of the client's log, for a message."""
        lines = [line for line in self.log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return " ".join(lines[-1].split())[:300] if lines else "nothing"

    def _wait_for_connection(self) -> Report:
        try:
            report = self._first.get(timeout=_CONNECT_SECONDS)
        except queue.Empty:
            self.close()
            raise UserError(f"engine 'ray': no connection within {_CONNECT_SECONDS:g} seconds; {self.log} says more") from None
        if report is None:
            raise HarnessError(f"engine 'ray': its client ended; {self.log} ends with: {self.last_words()}")
        if report.kind == "refused":
            self.close()
            raise UserError(f"engine 'ray': {report.text}")
        return report

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        """Pass on the reports: the first one to the constructor, the others to the function."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            line = lines.readline()
            self._first.put(Report.from_json(line) if line else None)
            self._listening.wait()
            for line in lines:
                if self._on_report is not None:
                    self._on_report(Report.from_json(line))
        self._process.wait()
        if self._on_report is not None and not self._closing:
            self._on_report(None)
