"""The tasks of a worker on a node that does not see the run's store: what they read and make is copied."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from harness import HarnessError, Outcome, engines, events

_STATES_EVERY = 10.0  # seconds between two looks for saved training states
_LEASE_EVERY = 0.2  # seconds between two tries to get a lease


class CopiedTasks:
    """Gives a worker its tasks in a thread, since a lease may have to be waited for. `tell` passes a message to the run."""

    def __init__(self, actor: Any, transfers: engines.Transfers, folder: str, tell: Callable[[engines.Message], None]) -> None:
        self._actor = actor
        self._transfers = transfers
        self._folder = folder
        self._tell = tell
        self._orders: queue.Queue[Sequence[str] | None] = queue.Queue()
        self._open: set[str] = set()  # keys of the tasks that the worker has
        self._progress = threading.Condition()
        self._closed = False
        self._last_look = time.monotonic()
        threading.Thread(target=self._give, daemon=True).start()

    def send(self, keys: Sequence[str]) -> None:
        """Give the worker a group of tasks when they are copied."""
        self._orders.put(keys)

    def finish(self) -> None:
        """Let the worker exit after the groups that it was given."""
        self._orders.put(None)

    def heard(self, message: engines.Message) -> engines.Message:
        """Act on a message of the worker; return what the run is told instead."""
        if isinstance(message, events.WorkerReady):
            return self._open_store(message)
        if isinstance(message, events.WorkerDescribed):
            return self._transfers.corrected(message)
        if not isinstance(message, Outcome):
            return message
        try:
            return self._transfers.receive(message)
        except engines.StoreError as error:
            return _refusal(error)
        finally:
            with self._progress:
                self._open.discard(message.key)
                self._progress.notify_all()

    def save_states(self) -> None:
        """Copy saved training states to the run's store, from time to time."""
        if not self._open or time.monotonic() - self._last_look < _STATES_EVERY:
            return
        self._last_look = time.monotonic()
        self._save_states()

    def end(self) -> None:
        """Copy saved training states after the worker has ended, and remove its store."""
        self._save_states()
        ray.get(self._actor.close_store.remote())

    def close(self) -> None:
        """Give no more tasks, and release their leases."""
        self._closed = True
        with self._progress:
            self._progress.notify_all()
        self._orders.put(None)
        self._transfers.close()

    def _save_states(self) -> None:
        try:
            self._transfers.save_states()
        except engines.StoreError as error:
            self._tell(_refusal(error))

    def _open_store(self, ready: events.WorkerReady) -> engines.Message:
        """Open the store of the node. The worker is ready, so the node has the code of the run."""
        try:
            ray.get(self._actor.open_store.remote(self._folder))
        except HarnessError as error:
            return _refusal(error)
        return ready

    def _give(self) -> None:
        while not self._closed:
            keys = self._orders.get()
            try:
                if keys is None:
                    self._actor.finish.remote()
                    return
                self._give_group(list(keys))
            except RayError:
                return  # the thread that listens reports it
            except HarnessError as error:
                self._tell(_refusal(error))

    def _give_group(self, keys: list[str]) -> None:
        """Copy what tasks need and give them to the worker; then those that another run was doing."""
        told = False
        while keys and not self._closed:
            beginning = self._transfers.begin(keys)
            for outcome in beginning.ended:
                self._tell(outcome)
            if beginning.sent:
                self._do(beginning.sent)
            elif beginning.waiting:
                if not told:
                    self._tell_waiting(beginning)
                told = True
                time.sleep(_LEASE_EVERY)
            keys = [task.key for task in beginning.waiting]

    def _do(self, keys: Sequence[str]) -> None:
        """Give tasks to the worker and wait for their ends."""
        with self._progress:
            self._open.update(keys)
            self._actor.write.remote(list(keys))
            self._progress.wait_for(lambda: self._closed or not self._open)

    def _tell_waiting(self, beginning: Any) -> None:
        for task in beginning.waiting:
            self._tell(events.TaskWaiting(task=task.key, kind=task.kind, message="another run is working on it"))


def _refusal(error: HarnessError) -> engines.Refusal:
    return engines.Refusal("store_refused", " ".join(str(error).split()))
