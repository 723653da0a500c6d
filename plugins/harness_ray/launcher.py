"""Starts workers as actors, and delivers what the client of Ray reports about them."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from harness import EngineContext, HarnessError, UserError, engines, events
from harness_ray.client_process import ClientProcess
from harness_ray.options import RayOptions
from harness_ray.protocol import ClientSettings, Order, Report

_OF_THE_RUN = ("HARNESS_EAGER", "HARNESS_PLAIN_KERNELS", "HARNESS_DISABLED_PLUGINS")
"""Environment variables that decide what a worker does; it needs the run's values."""


class ActorChannel:
    """The way to one worker: orders to the client, messages from it."""

    def __init__(self, number: int, client: ClientProcess) -> None:
        self._number = number
        self._client = client
        self._messages: deque[engines.Message] = deque()

    def send(self, keys: Sequence[str]) -> None:
        """Give the worker a group of tasks."""
        self._client.order(Order(self._number, "send", tuple(keys)))

    def finish(self) -> None:
        """Ask the worker to exit after its tasks."""
        self._client.order(Order(self._number, "finish"))

    def stop(self) -> None:
        """Ask the worker to save and exit."""
        self._client.order(Order(self._number, "stop"))

    def kill(self) -> None:
        """End the worker."""
        self._client.order(Order(self._number, "kill"))

    def add(self, message: engines.Message) -> None:
        """Keep a message for `receive`."""
        self._messages.append(message)

    def receive(self) -> Sequence[engines.Message]:
        """Return the new messages."""
        found = []
        while self._messages:
            found.append(self._messages.popleft())
        return found


class RayWorker(engines.MailboxWorker):
    """The connection to a worker in an actor."""

    def __init__(self, number: int, client: ClientProcess, log: Path, deliver: engines.Deliver) -> None:
        self._client = client
        self._channel = ActorChannel(number, client)
        super().__init__(f"Ray actor {number}", self._channel, deliver)
        self._log = log
        self._node = ""

    @property
    def place(self) -> str:
        """The actor, its node and its log."""
        node = f" on {self._node}" if self._node else ""
        return f"{self.label}{node}, log {self._log}"

    @property
    def log(self) -> str:
        """The last line of its log."""
        return engines.describe_log(self._log)

    def kill(self) -> None:
        """End it at once."""
        self._channel.kill()

    def join(self, deadline: float) -> None:
        """Wait for its end. Nobody can wait for it without the client."""
        if not self._client.has_ended:
            super().join(deadline)

    def handle(self, report: Report) -> None:
        """Act on a report of the client."""
        if report.kind == "placed":
            self._node = report.text
        elif report.kind == "message":
            message = engines.parse_message(report.text.encode())
            if message is not None:
                self._channel.add(message)
                self.look()
        else:
            cause = engines.ExitCause.LEFT if report.kind == "left" else engines.ExitCause.CRASHED
            self.end_unseen(report.text, cause)


class RayLauncher(engines.Launcher):
    """Starts actors. The logs of workers are DIR/ray/<time>/<number>.log, that of Ray's client is beside them.

    `cluster` describes the cluster; `room` is the number of actors that fit into it.
    """

    def __init__(self, context: EngineContext, options: RayOptions, device: str) -> None:
        self._context = context
        self.folder = context.folder / "ray" / time.strftime(f"%Y%m%d-%H%M%S-{time.monotonic_ns() % 10**6:06}")
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be created: {error.strerror or error}; choose another --out") from None
        self._workers: dict[int, RayWorker] = {}
        self._lock = threading.Lock()
        self._lost: HarnessError | None = None
        command = engines.worker_command(context, device)
        python = command[: command.index("-m")]
        settings = self._settings(options, command[1:])
        self._client = ClientProcess(python, settings, self.folder / "client.log")
        self.cluster, self.room = self._client.connected.text, self._client.connected.room
        self._client.listen(self._handle)

    def _settings(self, options: RayOptions, command: list[str]) -> ClientSettings:
        store = str(self._context.store.absolute())
        data = str(self._context.data.absolute())
        variables = engines.worker_variables(self._context.threads)
        variables |= {name: os.environ[name] for name in _OF_THE_RUN if name in os.environ}
        defaults = {"HARNESS_DATA": data}
        if os.environ.get("PYTHONPATH"):
            defaults["PYTHONPATH"] = os.environ["PYTHONPATH"]
        return ClientSettings(
            address=options.address,
            demands=options.demands(self._context.threads),
            size=options.actors,
            share_store=options.share_store,
            scratch=options.scratch,
            start_timeout=options.start_timeout,
            store=store,
            store_id=hashlib.sha256(f"{socket.gethostname()}:{store}".encode()).hexdigest()[:16],
            data=data,
            logs=str(self.folder.absolute()),
            command=command,
            defaults=defaults,
            variables=variables,
        )

    def launch(self, index: int, deliver: engines.Deliver) -> engines.WorkerHandle:
        """Create an actor, which waits until there is room for it."""
        with self._lock:
            if self._lost is not None:
                raise self._lost
            number = len(self._workers) + 1
            worker = RayWorker(number, self._client, self.folder / f"{number}.log", deliver)
            self._workers[number] = worker
        self._client.order(Order(number, "launch"))
        return worker

    def close(self) -> None:
        """End the client, and with it all actors and the cluster that it has started."""
        self._client.close()

    def _handle(self, report: Report | None) -> None:
        """Act on a report, in the client's thread."""
        if report is None:
            self._fail(self._describe_loss())
        elif report.kind == "notice":
            self._context.emit(events.RunWarning(message=report.text))
        elif report.worker == 0:
            self._fail(HarnessError(report.text))
        elif report.kind == "failed":
            self._workers[report.worker].fail(HarnessError(report.text))
        else:
            self._workers[report.worker].handle(report)

    def _describe_loss(self) -> HarnessError:
        words = self._client.last_words()
        problem = f"the connection to {self.cluster} was lost; the same command again goes on where its workers have saved"
        return HarnessError(f"{problem}; {self._client.log} ends with: {words}")

    def _fail(self, error: HarnessError) -> None:
        """End the run with an error, and let all workers count as ended."""
        with self._lock:
            self._lost = error
            workers = [worker for worker in self._workers.values() if not worker.ended]
        for worker in workers:
            worker.fail(error)
