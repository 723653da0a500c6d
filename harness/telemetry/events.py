"""What happens in a run: one frozen class per kind of event. Observers get these; `events.jsonl` holds one line for each.

Events are created where something happens, often in a worker process, by the key of the task alone. The process that runs the
benchmark adds what a task is about (`folder`, `dataset`, `methods`, ...) before observers see the event.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened.

    `event` is the name in `events.jsonl`. `time` is in seconds since 1970. `folder` is the folder of the run; lines of
    `events.jsonl`, which lies in it, leave it out.
    """

    event: str
    time: float = field(default_factory=time.time)
    folder: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the event as a line of `events.jsonl` holds it."""
        values = asdict(self)
        del values["folder"]
        return values


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run began. `benchmark` is the benchmark's name, `command` the command line as a list."""

    event: Literal["run_started"] = "run_started"
    benchmark: str
    command: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunPlanned(Event):
    """Tasks are about to be done; again, if a stored object turned out damaged.

    `tasks` and `epochs` (of plain training) are those that the store lacks, `epochs_in_all` and `cells` those of the benchmark.
    """

    event: Literal["planned"] = "planned"
    tasks: int
    epochs: float
    epochs_in_all: float
    cells: int


@dataclass(frozen=True, kw_only=True)
class EngineOpened(Event):
    """The engine is ready. `message` says how it works: processes, threads, what is trained side by side."""

    event: Literal["engine_opened"] = "engine_opened"
    engine: str
    workers: int
    device: str
    threads: int
    message: str


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """A run ended. `status`: done, failed (some cells), or interrupted."""

    event: Literal["run_ended"] = "run_ended"
    status: str


@dataclass(frozen=True, kw_only=True)
class RunWarning(Event):
    """Something that a user should know; the run goes on."""

    event: Literal["warning"] = "warning"
    message: str


@dataclass(frozen=True, kw_only=True)
class ObserverFailed(Event):
    """An observer raised an error and gets no more events. `observer` names its plugin."""

    event: Literal["observer_failed"] = "observer_failed"
    observer: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ObjectQuarantined(Event):
    """A damaged object (or saved training state) was moved to `path`; it is computed again. `key` is its key."""

    event: Literal["set_aside"] = "set_aside"
    key: str
    path: str
    message: str


@dataclass(frozen=True, kw_only=True)
class TaskEvent(Event):
    """Something that happened to a task. All but the first two fields are added by the process that runs the benchmark.

    `kind`: check, train, derive, predict or measure. `dataset`, `architecture` and `methods` are labels of the benchmark file;
    `methods` are those that need the task's result, in the file's order. `member` is the index of the member whose
    initialization or order of batches a training follows, or of the member that a prediction is for. `objective` is what a
    training minimizes, `metric` what a measurement computes. `cost` is in epochs of plain training. `description` says all this
    in a line.
    """

    about: ClassVar[tuple[str, ...]] = (
        "dataset",
        "architecture",
        "seed",
        "member",
        "methods",
        "objective",
        "metric",
        "cost",
        "description",
    )

    task: str
    kind: str
    dataset: str = ""
    architecture: str = ""
    seed: int | None = None
    member: int | None = None
    methods: tuple[str, ...] = ()
    objective: str = ""
    metric: str = ""
    cost: float = 0.0
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class TaskStarted(TaskEvent):
    """A worker began a task."""

    event: Literal["task_started"] = "task_started"


@dataclass(frozen=True, kw_only=True)
class TrainingStarted(TaskEvent):
    """A training begins or is resumed at `epoch`, and goes on up to the end of epoch `until`, with CPU `threads`."""

    event: Literal["train_started"] = "train_started"
    epoch: float
    until: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class EpochEnded(TaskEvent):
    """A training has reached the end of `epoch` of `until`.

    `loss` (nats) and `accuracy` (percent) are means over the epoch's augmented training images, as trained. `seconds` are those
    of the epoch; where siblings train side by side, of the whole group. `learning_rate` is that of the last step.
    """

    event: Literal["epoch"] = "epoch"
    epoch: int
    until: int
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TaskWaiting(TaskEvent):
    """A task waits because another run is working on it."""

    event: Literal["waiting"] = "waiting"
    message: str


@dataclass(frozen=True, kw_only=True)
class OutOfMemory(TaskEvent):
    """Memory did not suffice for a group of tasks, of which `task` is the first; `message` says how it is tried again."""

    event: Literal["out_of_memory"] = "out_of_memory"
    message: str


@dataclass(frozen=True, kw_only=True)
class SiblingsSeparated(TaskEvent):
    """Training siblings side by side failed; they are trained one by one. `task` is the first of them."""

    event: Literal["siblings_parted"] = "siblings_parted"
    message: str


@dataclass(frozen=True, kw_only=True)
class TaskRetried(TaskEvent):
    """A worker process ended while it did a task; the task is tried once more, alone."""

    event: Literal["tried_again"] = "tried_again"
    message: str


@dataclass(frozen=True, kw_only=True)
class TaskEnded(TaskEvent):
    """A task ended. `status`: done, failed, damaged (a parent object was) or interrupted.

    `seconds` have passed since its `TaskStarted`; None if it was not begun in this run.
    """

    event: Literal["task_ended"] = "task_ended"
    status: str
    message: str = ""
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerStarted(Event):
    """A worker process was started. `process` is its process number."""

    event: Literal["worker_started"] = "worker_started"
    process: int


@dataclass(frozen=True, kw_only=True)
class WorkerReady(Event):
    """A worker process has loaded its plugins and waits for tasks."""

    event: Literal["worker_ready"] = "worker_ready"
    process: int


@dataclass(frozen=True, kw_only=True)
class WorkerEnded(Event):
    """A worker process ended, with exit code `code`; a negative one is the number of the signal that ended it."""

    event: Literal["worker_ended"] = "worker_ended"
    process: int
    code: int


@dataclass(frozen=True, kw_only=True)
class PhasesMeasured(Event):
    """Where a process's time went since it last reported: `seconds` by phase (training, evaluation, store, ...)."""

    event: Literal["phases"] = "phases"
    seconds: Mapping[str, float]
    process: int = field(default_factory=os.getpid)


AnyEvent: TypeAlias = (
    RunStarted
    | RunPlanned
    | EngineOpened
    | RunEnded
    | RunWarning
    | ObserverFailed
    | ObjectQuarantined
    | TaskStarted
    | TrainingStarted
    | EpochEnded
    | TaskWaiting
    | OutOfMemory
    | SiblingsSeparated
    | TaskRetried
    | TaskEnded
    | WorkerStarted
    | WorkerReady
    | WorkerEnded
    | PhasesMeasured
)

_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="event")])


def event_from_json(value: Any) -> Event:
    """Return the event that JSON describes, as `to_json` returns it; raise `ValueError` if it describes none."""
    try:
        return _ADAPTER.validate_python(value)
    except ValidationError as error:
        raise ValueError(f"no event: {error.errors()[0]['msg']}") from None
