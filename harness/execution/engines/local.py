"""The default engine: worker processes on this machine, or this process alone.

On the CPU there is one worker per core, within a container's CPU quota, and one thread per task: small networks gain little
from a second thread, and several siblings run at once. On CUDA there is one worker process per device, and a process whose
device fails is replaced. Results do not depend on the number of workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pydantic import Field

from harness.api import options
from harness.api.engine import EngineContext
from harness.api.task import Outcome, Task
from harness.execution.device import resolve_device, worker_devices
from harness.execution.device_inventory import DeviceInventory, TorchDevices
from harness.execution.engines.assignment import PoolPolicy
from harness.execution.engines.cpu_count import count_cpus
from harness.execution.engines.pool_engine import Backend, PoolEngine
from harness.execution.engines.worker_pool import WorkerPool
from harness.execution.engines.worker_process import ProcessLauncher
from harness.telemetry.events import EngineOpened


class LocalEngine(PoolEngine):
    """Runs tasks on this machine: in this process with one worker on the CPU, else in `harness worker` processes."""

    name, version = "local", 1

    class Options(options.Options):
        """Options of the local engine."""

        workers: int | None = Field(
            None,
            ge=1,
            le=1024,
            description="processes; null: one for each CUDA device, or for each core, within a container's CPU quota",
        )
        task_timeout: float | None = Field(
            None,
            gt=0,
            description="seconds without a sign of life (an epoch, an end) after which a task is ended and fails; null: never",
        )

    def start(self, context: EngineContext) -> Backend:
        """Choose between this process and worker processes. Worker processes are started when there are tasks for them.

        The choice depends on the options and the machine only, not on the pending tasks: a resumed run computes in the same way
        as the first one. A task in this process cannot be ended by a timeout, nor can this process continue on a CUDA device
        after an error that destroys its context: these need worker processes.
        """
        device = resolve_device(context.device)
        timeout = self.options.task_timeout
        workers = self.options.workers or default_workers(device)
        in_process = workers == 1 and timeout is None and device == "cpu"
        context.emit(
            EngineOpened(
                engine=self.name,
                workers=workers,
                device=device,
                threads=context.threads,
                message=_description(workers, in_process, device, context.threads),
            )
        )
        if in_process:
            return InProcess(context)
        policy = PoolPolicy(workers, whole_groups=device != "cpu", task_timeout=timeout)
        return WorkerPool(context, ProcessLauncher(context, worker_devices(device, workers)), policy)


class InProcess:
    """Does one group at a time in this process."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._groups: deque[Sequence[Task]] = deque()

    @property
    def has_capacity(self) -> bool:
        return not self._groups

    def group_size(self, ready: int, groups: int) -> int:
        return ready

    def submit(self, group: Sequence[Task]) -> None:
        self._groups.append(group)

    def wait(self) -> Sequence[Outcome]:
        return self._context.run_here(self._groups.popleft())

    def close(self) -> None:
        pass


def default_workers(device: str, inventory: DeviceInventory | None = None) -> int:
    """Return one worker per CUDA device, one for a single CUDA device (`cuda:1`), else one per usable core."""
    if device == "cpu":
        return count_cpus().usable
    inventory = inventory or TorchDevices()
    return max(1, inventory.count()) if device == "cuda" else 1


def _description(workers: int, in_process: bool, device: str, threads: int) -> str:
    """Return which processes do the tasks, and how siblings are trained."""
    where = "this process" if in_process else f"{workers} worker process{_plural(workers, 'es')}"
    if device != "cpu":
        devices = list(dict.fromkeys(worker_devices(device, workers)))
        return f"{where} on {', '.join(devices)}, siblings side by side on a device"
    each = "" if in_process else " each"
    siblings = "one after another" if workers == 1 else "on a core each"
    return f"{where}, {threads} CPU thread{_plural(threads)}{each}, siblings {siblings}"


def _plural(count: int, ending: str = "s") -> str:
    return ending if count > 1 else ""
