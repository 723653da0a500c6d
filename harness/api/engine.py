"""What an engine supplies: it gets ready tasks done somewhere."""

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
    """What an engine needs to know to get tasks done, and where events go.

    `emit` gets every event, those of worker processes too (`harness.events.event_from_json` reads their lines). `run_here` does
    a group of tasks in this process, as `harness worker` does in another. `code` describes the code that the run uses, for
    `harness worker --run-code`, which refuses to run other code. `threads` are the CPU threads of each task: part of the
    numerics, so never the number of cores that happen to be free.
    """

    store: Path
    data: Path
    device: str
    emit: Callable[[Event], None]
    stopping: Callable[[], bool]
    run_here: Callable[[Sequence[Task]], Sequence[Outcome]]
    code: str
    threads: int = 1


class Engine(Plugin):
    """Gets ready tasks done somewhere. The graph and the question of what is done belong to the harness.

    Wherever an engine runs a task, it runs what `harness worker --task KEY --store PATH` runs.
    """

    @abstractmethod
    def open(self, context: EngineContext) -> None:
        """Prepare; called once, before anything is submitted."""

    @property
    @abstractmethod
    def has_capacity(self) -> bool:
        """Whether it could start another group now."""

    @abstractmethod
    def submit(self, group: Sequence[Task]) -> None:
        """Take a group of ready tasks; siblings come in one group, so that they can be trained together, or side by side."""

    @abstractmethod
    def wait(self) -> Sequence[Outcome]:
        """Block until some task has ended, and return how; raise `Interrupted` if asked to stop."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what was opened; called once, also after a failure."""
