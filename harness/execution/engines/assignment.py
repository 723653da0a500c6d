"""Which worker of a pool does which group of tasks, and when another worker is started."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.api.task import Task
from harness.execution.engines.device_slots import DeviceSlots
from harness.execution.engines.pooled_worker import PooledWorker
from harness.execution.queue import side_by_side


@dataclass(frozen=True)
class PoolPolicy:
    """How a pool uses its workers.

    `limit` is the largest number of workers at a time. With `whole_groups`, a group of siblings goes to one worker, which
    trains them side by side on its device, unless other workers have nothing to do; else each of its tasks goes to the next
    idle worker. `isolated` workers have memory of their own: a task whose worker ended is tried again at once, not when all
    others have ended, and a task that runs out of memory is not. After `start_attempts` workers in a row that ended before they
    were ready, or that could not use the store, the run ends. A task fails after `task_timeout` seconds without a sign of life,
    a worker ends after `idle_timeout` seconds without a task; None: never.
    """

    limit: int
    whole_groups: bool
    isolated: bool = False
    start_attempts: int = 1
    task_timeout: float | None = None
    idle_timeout: float | None = None


class Assignment:
    """The groups that wait for a worker, and the workers.

    `slots` has the devices of the workers by their numbers, those that are left out included. `start` starts a worker.
    """

    def __init__(self, policy: PoolPolicy, slots: DeviceSlots, start: Callable[[int], PooledWorker]) -> None:
        self.workers: list[PooledWorker] = []
        self._policy = policy
        self._slots = slots
        self._start = start
        self._waiting: deque[Sequence[Task]] = deque()
        self._retries: deque[Task] = deque()  # tasks to retry while there is no other worker
        self._retrying: PooledWorker | None = None
        self._tried_alone: set[str] = set()  # keys of tasks that ran out of memory beside other workers

    @property
    def has_capacity(self) -> bool:
        """Whether there is a worker, or can be one, for another group."""
        busy = sum(bool(worker.tasks) and self._slots.is_usable(worker.index) for worker in self.workers)
        return not self._retry_is_running and len(self._waiting) + busy < self._slots.limit

    def group_size(self, ready: int, groups: int) -> int:
        """Return how many of a group's ready tasks one worker should get.

        That is 1 where siblings are done one by one anyway. Workers that share a device do not divide a group.
        """
        if not self._policy.whole_groups:
            return 1
        return side_by_side(ready, groups, self._slots.device_count)

    @property
    def has_retries(self) -> bool:
        """Whether tasks wait to be tried alone."""
        return bool(self._retries)

    def add(self, group: Sequence[Task]) -> None:
        """Queue a group: as a whole if one worker must do it (measurements share an ensemble), else task by task."""
        if self._policy.whole_groups or group[0].kind == "measure":
            self._waiting.append(group)
        else:
            self._waiting.extend([task] for task in group)

    def requeue(self, group: Sequence[Task]) -> None:
        """Queue a group before all others."""
        if group:
            self._waiting.appendleft(group)

    def retry(self, task: Task) -> None:
        """Queue a task whose worker has ended: alone, and if workers share their memory, after all others."""
        if self._policy.isolated:
            self._waiting.appendleft([task])
        else:
            self._retries.append(task)

    def retry_without_others(self, task: Task) -> bool:
        """Queue a task that ran out of memory, if other workers hold memory of the same machine; return whether it is queued.

        It is tried once more, alone and after all others.
        """
        if self._policy.isolated or len(self.workers) < 2 or task.key in self._tried_alone:
            return False
        self._tried_alone.add(task.key)
        self._retries.append(task)
        return True

    def was_without_others(self, task: Task) -> bool:
        """Return whether a task was tried alone because it had run out of memory."""
        return task.key in self._tried_alone

    def hand_out(self) -> None:
        """Give groups to idle workers, and start workers for the others. A task that is retried alone is waited for."""
        if not (self._waiting or self._retries) or self._retry_is_running:
            return
        idle = [worker for worker in self.workers if worker.idle]
        while self._waiting and idle:
            idle.pop(0).give(self._waiting.popleft())
        nothing_else = not self._waiting and not any(worker.tasks for worker in self.workers)
        if self._retries and nothing_else:
            self._retry_alone()
        else:
            self._start_workers(len(self._waiting))

    def _retry_alone(self) -> None:
        """Give a task to the only worker. All others end first, since idle workers hold memory, too."""
        usable = [worker for worker in self.workers if worker.idle or worker.starting]
        if not usable:
            self._start_workers(1)
            return
        only, *others = sorted(usable, key=lambda worker: worker.starting)
        for worker in others:
            worker.finish()
        for worker in self.workers:
            worker.kill_if_overdue()
        if only.idle and len(self.workers) == 1:
            self._retrying = only
            only.give([self._retries.popleft()])

    @property
    def _retry_is_running(self) -> bool:
        return self._retrying is not None and bool(self._retrying.tasks)

    def _start_workers(self, wanted: int) -> None:
        """Start workers until `wanted` of them are starting, or the limit is reached."""
        if not wanted:
            return
        starting = sum(worker.starting for worker in self.workers)
        while starting < wanted:
            index = self._slots.free({worker.index for worker in self.workers})
            if index is None:
                return
            self.workers.append(self._start(index))
            starting += 1
