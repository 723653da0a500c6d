"""The default engine: worker processes on this machine, or this process alone. Knows nothing of graphs.

On the CPU every task has one thread and there are as many workers as cores, or as a container's CPU quota allows: networks of
this size gain little from a second thread, and siblings gain a core each. On CUDA there is one worker per device. Results do
not depend on the number of workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pydantic import Field

from harness.api import options
from harness.api.engine import Engine, EngineContext
from harness.api.task import Outcome, Task
from harness.execution.engines.cpu_count import count_cpus
from harness.execution.engines.cuda_devices import count_cuda_devices
from harness.execution.engines.worker_pool import WorkerPool
from harness.telemetry.events import EngineOpened


class LocalEngine(Engine):
    """Runs tasks on this machine: in this process with one worker, else in `harness worker` processes."""

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

    def open(self, context: EngineContext) -> None:
        """Choose between this process and worker processes, which are started when there is work for them.

        The choice depends on the options and the machine only, never on what is left to do: a resumed run computes as the first
        one did.
        """
        from harness.execution.device import resolve_device

        device = resolve_device(context.device)
        timeout = self.options.task_timeout
        workers = self.options.workers or (count_cuda_devices() if device == "cuda" else count_cpus().usable)
        in_process = workers == 1 and timeout is None  # no timeout can end a task of this process
        self._backend: _InProcess | WorkerPool
        if in_process:
            self._backend = _InProcess(context)
        else:
            self._backend = WorkerPool(context, workers, device, timeout)
        context.emit(
            EngineOpened(
                engine=self.name,
                workers=workers,
                device=device,
                threads=context.threads,
                message=_description(workers, in_process, device, context.threads),
            )
        )

    @property
    def has_capacity(self) -> bool:
        """As long as a worker is idle."""
        return self._backend.has_capacity

    def submit(self, group: Sequence[Task]) -> None:
        """Take a group."""
        self._backend.submit(group)

    def wait(self) -> Sequence[Outcome]:
        """Work, or wait for the first worker that has done something."""
        return self._backend.wait()

    def close(self) -> None:
        """Stop the workers; they save their trainings first."""
        self._backend.close()


class _InProcess:
    """One group at a time, in this process."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._groups: deque[Sequence[Task]] = deque()

    @property
    def has_capacity(self) -> bool:
        return not self._groups

    def submit(self, group: Sequence[Task]) -> None:
        self._groups.append(group)

    def wait(self) -> Sequence[Outcome]:
        return self._context.run_here(self._groups.popleft())

    def close(self) -> None:
        pass


def _description(workers: int, in_process: bool, device: str, threads: int) -> str:
    """Return who does the work, and how siblings are trained there."""
    where = "this process" if in_process else f"{workers} worker process{_plural(workers, 'es')}"
    if device == "cuda":
        return f"{where} on CUDA, siblings side by side on a device"
    each = "" if in_process else " each"
    siblings = "one after another" if workers == 1 else "on a core each"
    return f"{where}, {threads} CPU thread{_plural(threads)}{each}, siblings {siblings}"


def _plural(count: int, ending: str = "s") -> str:
    return ending if count > 1 else ""
