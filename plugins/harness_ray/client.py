"""The process between a run and a Ray cluster: `python -m harness_ray.client`.

Ray ends the process that uses it when its head is gone, prints on the terminal, and handles signals. So it has a process of its
own, which reads orders from standard input and writes reports to standard output, one in a line. When its input ends, its
workers save and end.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "20")  # seconds without the head; 60 by default
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import cloudpickle

from harness import engines
from harness_ray import actor as actor_module
from harness_ray.actor import WorkerActor
from harness_ray.protocol import ClientSettings, Order, Report
from harness_ray.remote_store import SentEntries
from harness_ray.room import describe_demands, describe_nodes, room_for
from harness_ray.worker_link import Surroundings, WorkerLink

_LOCAL = "local"  # the address that makes Ray start a cluster
_ANSWER_SECONDS = 15.0  # to connect to the head
_TELL_AFTER = 30.0  # seconds without room after which the user is told
_OBJECT_STORE = 2 * 10**8  # bytes of memory of a local cluster's object store
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")


class Client:
    """Starts actors and passes on orders and reports. `out` is for reports."""

    def __init__(self, settings: ClientSettings, out: IO[str]) -> None:
        self._settings = settings
        self._out = out
        self._lock = threading.Lock()
        self._links: dict[int, WorkerLink] = {}
        self._told = False
        store = engines.Store(Path(settings.store))
        content = secrets.token_hex(16).encode()
        mark = str(store.write_temporary(content))
        self._shared = Surroundings(settings, store, (mark, content), SentEntries(), self.say)

    def say(self, report: Report) -> None:
        """Write a report. A run that no longer listens has ended."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._out.write(report.to_json() + "\n")
            self._out.flush()

    def serve(self, lines: Any) -> None:
        """Obey orders until there are no more; then let all workers save and end."""
        threading.Thread(target=self._watch, daemon=True).start()
        for line in lines:
            order = Order.from_json(line)
            if order.verb == "launch":
                self._links[order.worker] = WorkerLink(order.worker, self._new_actor(), self._shared)
            else:
                self._obey(self._links[order.worker], order)
        self._close()

    def _obey(self, link: WorkerLink, order: Order) -> None:
        if link.ended.is_set():
            return
        if order.verb == "send":
            link.send(order.keys)
        elif order.verb == "finish":
            link.finish()
        elif order.verb == "stop":
            link.stop()
        else:
            link.kill()

    def _new_actor(self) -> Any:
        demands = dict(self._settings.demands)
        options = {
            "num_cpus": demands.pop("CPU", 0),
            "num_gpus": demands.pop("GPU", 0),
            "resources": demands,
            "max_restarts": 0,
            "max_concurrency": 1,
            "concurrency_groups": {"poll": 1},
            "scheduling_strategy": "SPREAD",
        }
        return ray.remote(**options)(WorkerActor).remote()

    def _watch(self) -> None:
        """Tell when actors find no room; end the run if none runs and they have waited for too long."""
        while True:
            time.sleep(1.0)
            links = [link for link in list(self._links.values()) if not link.ended.is_set()]
            waiting = [link for link in links if not link.placed.is_set()]
            if waiting:
                waited = time.monotonic() - min(link.launched for link in waiting)
                self._check_waiting(waited, none_runs=len(waiting) == len(links), count=len(waiting))

    def _check_waiting(self, waited: float, *, none_runs: bool, count: int) -> None:
        what = describe_demands(self._settings.demands)
        timeout = self._settings.start_timeout
        if timeout is not None and waited > timeout and none_runs:
            problem = f"the Ray cluster had no room for an actor with {what} within {timeout:g} seconds; it has"
            self.say(Report(0, "failed", f"{problem} {describe_nodes(ray.nodes())}; ask for less, or raise start_timeout"))
        elif waited > _TELL_AFTER and not self._told:
            self._told = True
            number = f"{count} Ray actors wait" if count > 1 else "a Ray actor waits"
            self.say(Report(0, "notice", f"{number} for room ({what}): the cluster has {describe_nodes(ray.nodes())}"))

    def _close(self) -> None:
        """Let workers save and end; end the actors of those that do not."""
        running = [link for link in self._links.values() if not link.ended.is_set()]
        for link in running:
            if link.placed.is_set():
                link.stop()
            else:
                link.kill()
        deadline = time.monotonic() + engines.GRACE_SECONDS
        for link in running:
            link.ended.wait(max(0.0, deadline - time.monotonic()))
            link.destroy()
        self._shared.store.close()


def connect(address: str, settings: ClientSettings) -> Report:
    """Connect to a cluster, or start one; return the report about it. Raise what Ray raises."""
    if address == _LOCAL:
        _start_cluster(settings)
        where = "a Ray cluster on this machine"
    else:
        _require_answer(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        where = f"the Ray cluster {ray.get_runtime_context().gcs_address}"
    nodes = ray.nodes()
    room = room_for(settings.demands, nodes)
    if address == _LOCAL and not room:
        problem = f"this machine has no room for an actor with {describe_demands(settings.demands)}"
        return Report(0, "refused", f"{problem}: it has {describe_nodes(nodes)}")
    return Report(0, "connected", f"{where} ({describe_nodes(nodes)})", room)


def _start_cluster(settings: ClientSettings) -> None:
    """Start a cluster of one node, which ends with this process. It has the CPUs that the actors reserve, and real GPUs."""
    cpus = None
    if settings.size is not None:
        cpus = max(1, math.ceil(settings.size * settings.demands.get("CPU", 0)))
    custom = {}
    for name, amount in settings.demands.items():
        if name not in ("CPU", "GPU"):
            custom[name] = amount * (settings.size or 1)
    ray.init(
        address=_LOCAL,
        num_cpus=cpus,
        resources=custom,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )


def _require_answer(address: str) -> None:
    """Raise `ConnectionError` if nothing listens at HOST:PORT. Ray itself would end this process after a while."""
    if address.startswith("ray://"):
        raise ConnectionError(f"RAY_ADDRESS is {address}, for Ray Client; start `harness run` on a machine of the cluster")
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        reason = error.strerror or error
        raise ConnectionError(f"no Ray cluster answers at {address}: {reason}; `ray status` on its head shows more") from None


def private_streams() -> tuple[IO[str], IO[str]]:
    """Return standard input and output for the protocol; what Ray prints goes to standard error."""
    lines, out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(lines, encoding="utf-8"), os.fdopen(out, "w", encoding="utf-8")


def main() -> None:
    """Serve one run."""
    lines, out = private_streams()
    settings = ClientSettings.from_json(lines.readline())
    cloudpickle.register_pickle_by_value(actor_module)
    address = settings.address or os.environ.get("RAY_ADDRESS") or _LOCAL
    if address == _LOCAL:  # all its nodes are this machine, which has no data root of its own
        settings = replace(settings, variables={**settings.variables, "HARNESS_DATA": settings.data})
    client = Client(settings, out)
    try:
        report = connect(address, settings)
    except Exception as error:  # Ray raises many kinds, some with texts of several lines
        report = Report(0, "refused", " ".join(str(error).split()) or type(error).__name__)
    client.say(report)
    if report.kind == "refused":
        sys.exit(1)
    for name in _SIGNALS:  # the run decides when this process ends
        signal.signal(getattr(signal, name), lambda number, frame: None)
    client.serve(lines)
    ray.shutdown()


if __name__ == "__main__":
    main()
