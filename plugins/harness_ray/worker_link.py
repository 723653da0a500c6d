"""The client's connection to one actor: a thread that reads what its worker says, and another one that gives it tasks."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError

from harness import HarnessError, engines, events
from harness_ray.copied_tasks import CopiedTasks
from harness_ray.protocol import ClientSettings, Report
from harness_ray.remote_store import ActorStore, SentEntries

_NODE_SECONDS = 60.0  # time for Ray to notice that a node is lost
_DEAD_PROCESS = "its worker process has died"  # what Ray says about an actor on a node that lives

Say = Callable[[Report], None]


@dataclass(frozen=True)
class Surroundings:
    """What all connections of a client share. `mark` is a file of the run's store, and its content."""

    settings: ClientSettings
    store: engines.Store
    mark: tuple[str, bytes]
    sent: SentEntries
    say: Say


class WorkerLink:
    """A worker in an actor. `placed` is set when the actor runs on a node, `ended` when the end was reported."""

    def __init__(self, number: int, actor: Any, shared: Surroundings) -> None:
        self.number = number
        self.launched = time.monotonic()
        self.placed = threading.Event()
        self.ended = threading.Event()
        self._actor = actor
        self._shared = shared
        self._node_id = ""
        self._copied: CopiedTasks | None = None
        self._stopped = False
        threading.Thread(target=self._run, daemon=True).start()

    def send(self, keys: Sequence[str]) -> None:
        """Give the worker a group of tasks."""
        if self._copied is not None:
            self._copied.send(keys)
        else:
            self._actor.write.remote(list(keys))

    def finish(self) -> None:
        """Let the worker exit after its tasks."""
        if self._copied is not None:
            self._copied.finish()
        else:
            self._actor.finish.remote()

    def stop(self) -> None:
        """Let the worker save and exit."""
        self._stopped = True
        self._actor.stop.remote()

    def kill(self) -> None:
        """End the worker."""
        self._stopped = True
        if self.placed.is_set():
            self._actor.kill.remote()
        else:
            ray.kill(self._actor)

    def destroy(self) -> None:
        """End the actor."""
        with contextlib.suppress(RayError):
            ray.kill(self._actor)

    def _run(self) -> None:
        """Report everything about the worker, at last its end."""
        try:
            self._serve()
        except RayError as error:
            self._report_loss(error)
        except Exception as error:  # the run must not wait for a thread that has ended
            self._say("failed", f"{type(error).__name__}: {' '.join(str(error).split())}")
        finally:
            if self._copied is not None:
                self._copied.close()
            self.ended.set()
            self.destroy()

    def _serve(self) -> None:
        facts = ray.get(self._actor.describe.remote(*self._shared.mark, self._shared.settings.scratch))
        self._node_id = facts["node_id"]
        self.placed.set()
        self._say("placed", facts["host"])
        folder = self._own_store(facts)
        settings = self._shared.settings
        command = _with_store(settings.command, folder or settings.store)
        process = ray.get(self._actor.start.remote(command, settings.defaults, settings.variables))
        self._tell(events.WorkerStarted(process=process))
        if folder is not None:
            node = ActorStore(self._actor, self._shared.sent, facts["host"])
            self._copied = CopiedTasks(self._actor, engines.Transfers(self._shared.store, node), folder, self._tell)
        if self._stopped:
            self._actor.stop.remote()
        code = self._listen()
        if self._copied is not None:
            self._copied.end()
        self._tell(events.WorkerEnded(process=process, code=code))

    def _own_store(self, facts: dict[str, Any]) -> str | None:
        """Return the folder for a store of the node; None if it uses that of the run."""
        settings = self._shared.settings
        sees_store = facts["sees_store"]
        if settings.share_store == "yes" and not sees_store:
            problem = f"node {facts['host']} does not see the store {settings.store}"
            raise HarnessError(f"{problem}; mount it there, or let objects be copied with share_store=auto")
        if settings.share_store == "yes" or (settings.share_store == "auto" and sees_store):
            return None
        return str(Path(facts["copies"]) / settings.store_id)

    def _listen(self) -> int:
        """Report what the worker says until it ends; return its exit code."""
        seen = 0
        with (Path(self._shared.settings.logs) / f"{self.number}.log").open("ab", buffering=0) as log:
            while True:
                seen, said = self._poll(seen)
                for kind, line in said:
                    if kind == "end":
                        return int(line)
                    if kind == "err":
                        log.write(line)
                    else:
                        self._hear(line)
                if self._copied is not None:
                    self._copied.save_states()

    def _poll(self, seen: int) -> tuple[int, list[tuple[str, bytes]]]:
        """Ask the actor for news. A connection that breaks for a moment loses nothing."""
        deadline = time.monotonic() + _NODE_SECONDS
        while True:
            try:
                answer: tuple[int, list[tuple[str, bytes]]] = ray.get(
                    self._actor.poll.options(concurrency_group="poll").remote(seen)
                )
                return answer
            except ActorUnavailableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _hear(self, line: bytes) -> None:
        message = engines.parse_message(line)
        if message is None:
            return
        if self._copied is not None:
            message = self._copied.heard(message)
        self._tell(message)

    def _report_loss(self, error: RayError) -> None:
        """Report the end of an actor: with its node, or alone."""
        if not self.placed.is_set():
            self._say("left", "the end of its actor before it was placed")
        elif isinstance(error, ActorUnavailableError) or _DEAD_PROCESS not in str(error) or self._node_is_lost():
            self._say("left", "the loss of its node")
        else:
            self._say("crashed", "the death of its actor")

    def _node_is_lost(self) -> bool:
        return not any(node["NodeID"] == self._node_id and node["Alive"] for node in ray.nodes())

    def _tell(self, message: engines.Message) -> None:
        self._say("message", json.dumps(engines.message_json(message), default=str))

    def _say(self, kind: Any, text: str) -> None:
        self._shared.say(Report(self.number, kind, text))


def _with_store(command: Sequence[str], store: str) -> list[str]:
    """Return a worker's command on another store."""
    changed = list(command)
    changed[changed.index("--store") + 1] = store
    return changed
