"""The part that engines with workers share: the calls of the interface go to what `start` returns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from harness.api.engine import Engine, EngineContext
from harness.api.task import Outcome, Task


class Backend(Protocol):
    """What an engine needs after it was opened; `WorkerPool` is one."""

    @property
    def has_capacity(self) -> bool:
        """Whether another group can be submitted now."""

    def group_size(self, ready: int, groups: int) -> int:
        """Return how many of a group's tasks to submit at once."""

    def submit(self, group: Sequence[Task]) -> None:
        """Accept a group of ready tasks."""

    def wait(self) -> Sequence[Outcome]:
        """Return the outcomes of the next tasks that end."""

    def close(self) -> None:
        """Release everything."""


class PoolEngine(Engine):
    """An engine that consists of its options and of `start`, which returns a `WorkerPool` with a launcher of its own."""

    _backend: Backend | None = None

    @abstractmethod
    def start(self, context: EngineContext) -> Backend:
        """Return what does the tasks. Start workers only when there are tasks; emit `EngineOpened`."""

    def open(self, context: EngineContext) -> None:
        """Prepare to run tasks."""
        self._backend = self.start(context)

    @property
    def has_capacity(self) -> bool:
        """Whether a worker is idle or can be started."""
        return self._opened.has_capacity

    def group_size(self, ready: int, groups: int) -> int:
        """Return how many of a group's tasks to submit at once."""
        return self._opened.group_size(ready, groups)

    def submit(self, group: Sequence[Task]) -> None:
        """Accept a group of ready tasks."""
        self._opened.submit(group)

    def wait(self) -> Sequence[Outcome]:
        """Wait until a task has ended."""
        return self._opened.wait()

    def close(self) -> None:
        """Stop the workers; they save their trainings first. A second call does nothing."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    @property
    def _opened(self) -> Backend:
        assert self._backend is not None, "the engine is not open"
        return self._backend
