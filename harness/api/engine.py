"""Interface of engines: where and when tasks run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.api.plugin import Plugin
from harness.api.task import Outcome, Task
from harness.telemetry.events import Event


@dataclass(frozen=True)
class EngineContext:
    """What an engine needs to run tasks.

    `store` and `data` are the store's folder and the data root. `folder` is that of the run; an engine's own files belong in
    a folder of its name there. `device` is `cpu`, `cuda` or `cuda:INDEX`.
    `threads` is the number of CPU threads per task. It affects rounding, so it does not depend on the number of free
    cores.

    Call `emit` with every event, including those of worker processes; `harness.events.event_from_json` parses their
    lines. `stopping()` is True once the run must save and stop. `run_here(group)` runs a group of tasks in this
    process, as `harness worker` does in another one, and returns an outcome per task. Pass `code` to
    `harness worker --run-code`: a worker with different code refuses to run.
    """

    store: Path
    data: Path
    folder: Path
    device: str
    emit: Callable[[Event], None]
    stopping: Callable[[], bool]
    run_here: Callable[[Sequence[Task]], Sequence[Outcome]]
    code: str
    threads: int = 1


class Engine(Plugin):
    """Runs ready tasks: in this process, in worker processes, or on other machines.

    The harness decides which tasks are ready and which are done. The engine decides where and when they run. It runs
    a task with `EngineContext.run_here`, or with `harness worker --task KEY --store PATH`; both do the same. An engine
    with workers is best a `harness.engines.PoolEngine`, which needs only a way to start and to reach them.

    A run calls `open`, then `submit` and `wait` repeatedly, then `close`. If a stored object turns out damaged, the
    run closes the engine, plans again, and opens the same engine again.

    class InProcess(Engine):
        name = "in_process"

        def open(self, context):
            self.context = context
            self.groups = []

        @property
        def has_capacity(self):
            return not self.groups

        def submit(self, group):
            self.groups.append(group)

        def wait(self):
            return self.context.run_here(self.groups.pop())

        def close(self):
            pass
    """

    def device_for(self, requested: str) -> str | None:
        """Return the device of workers on other machines for `auto`, `cpu` or `cuda`; None if tasks are done on this machine.

        On other machines nobody can say what `precision: auto` means on CUDA, so the benchmark must name the precision.
        """
        return None

    @abstractmethod
    def open(self, context: EngineContext) -> None:
        """Prepare to run tasks; called before the first group is submitted."""

    @property
    @abstractmethod
    def has_capacity(self) -> bool:
        """Whether another group can be submitted now."""

    def group_size(self, ready: int, groups: int) -> int:
        """Return how many of a group's tasks to submit at once. `ready` of them are ready, and so are tasks of `groups` groups.

        Fewer than `ready` leave the others to other workers, and let more urgent tasks come before them. Measurements of one
        ensemble are always submitted together.
        """
        return ready

    @abstractmethod
    def submit(self, group: Sequence[Task]) -> None:
        """Accept a group of ready tasks.

        Siblings are tasks of one kind and setting that can run at once, such as the trainings of an ensemble's
        members. They are submitted as one group, so that the engine can keep them together or distribute them.
        """

    @abstractmethod
    def wait(self) -> Sequence[Outcome]:
        """Block until at least one task has ended; return the outcome of each task that has.

        Return one outcome per submitted task in total. Raise `harness.errors.Interrupted` if the
        run must stop.
        """

    @abstractmethod
    def close(self) -> None:
        """Release what `open` acquired. Called once after each `open` that returned, even if an error followed."""
