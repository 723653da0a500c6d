"""The actor of Ray that runs one worker on a node and passes on what it says.

The class travels to the node by value, so it needs nothing there but the standard library and Ray. The actor imports the
harness, to copy objects, only after the worker was ready, which means that the node has the code of the run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness import engines

_WAIT_SECONDS = 1.0  # the longest time that `poll` takes
_MOST_LINES = 1000  # per `poll`

Said = tuple[str, bytes]
"""What a worker said: `out` and a line of standard output, `err` and a line of standard error, or `end` and the exit code."""


class WorkerActor:
    """Runs one worker process. Methods are called through Ray; `poll` in a thread of its own."""

    def __init__(self) -> None:
        self._said: list[Said] = []
        self._first = 0  # number of the first entry of `_said`
        self._news = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._node_store: engines.NodeStore | None = None

    def describe(self, mark: str, content: bytes, scratch: str | None) -> dict[str, Any]:
        """Tell where this is: host, node, a folder for copies, and whether the file `mark` is seen with its content."""
        import ray

        sees_store = False
        with contextlib.suppress(OSError):
            sees_store = Path(mark).read_bytes() == content
        copies = Path(scratch or tempfile.gettempdir()) / f"basin-harness-{os.geteuid()}"
        return {
            "host": socket.gethostname(),
            "node_id": ray.get_runtime_context().get_node_id(),
            "copies": str(copies),
            "sees_store": sees_store,
        }

    def start(self, arguments: Sequence[str], defaults: dict[str, str], variables: dict[str, str]) -> int:
        """Start the worker with this node's interpreter; return its process ID."""
        environment = {**defaults, **os.environ, **variables}
        for folder in environment.get("PYTHONPATH", "").split(os.pathsep):
            if folder and folder not in sys.path:
                sys.path.append(folder)
        command = [sys.executable, *arguments, "--stdin", "--parent", str(os.getpid())]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True)
        self._process = process
        assert process.stdout is not None
        assert process.stderr is not None
        readers = [
            threading.Thread(target=self._read, args=(kind, stream), daemon=True)
            for kind, stream in (("out", process.stdout), ("err", process.stderr))
        ]
        for reader in readers:
            reader.start()
        threading.Thread(target=self._wait, args=(process, readers), daemon=True).start()
        return process.pid

    def poll(self, seen: int) -> tuple[int, list[Said]]:
        """Return what the worker said after the first `seen` lines, with the new number. Wait for it a short time.

        A line is forgotten when it was seen, so an answer that was lost on the way can be asked for again.
        """
        with self._news:
            del self._said[: max(0, seen - self._first)]
            self._first = max(seen, self._first)
            if not self._said:
                self._news.wait(_WAIT_SECONDS)
            said = self._said[:_MOST_LINES]
            return self._first + len(said), said

    def write(self, keys: Sequence[str]) -> None:
        """Give the worker a group of tasks."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._process.stdin.write((" ".join(keys) + "\n").encode())
                self._process.stdin.flush()

    def finish(self) -> None:
        """Let the worker exit after its tasks."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def stop(self) -> None:
        """Let the worker save and exit."""
        self.finish()
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End the worker and its children."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def open_store(self, folder: str) -> None:
        """Open the node's own store."""
        from harness import engines

        self._node_store = engines.NodeStore(Path(folder))

    def in_store(self, method: str, *arguments: Any) -> Any:
        """Call a method of the node's own store."""
        return getattr(self._node_store, method)(*arguments)

    def close_store(self) -> None:
        """Remove the node's own store, unless another worker uses it."""
        if self._node_store is not None:
            self._node_store.close(remove=True)

    def _read(self, kind: str, stream: IO[bytes]) -> None:
        for line in stream:
            self._say(kind, line)

    def _wait(self, process: subprocess.Popen[bytes], readers: Sequence[threading.Thread]) -> None:
        code = process.wait()
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # a plugin's child would keep the output open
        for reader in readers:
            reader.join(timeout=10)
        self._say("end", str(code).encode())

    def _say(self, kind: str, line: bytes) -> None:
        with self._news:
            self._said.append((kind, line))
            self._news.notify_all()
