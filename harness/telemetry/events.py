"""Events of a run: one frozen class per kind of event. Observers receive them, and `events.jsonl` has one line per event.

A worker process creates events of tasks with the key of the task only. The process that runs the benchmark adds the other
fields (`folder`, `dataset`, `methods`, ...) before observers receive the event. This module has all classes: the events of runs
and tasks, and those of `worker_events`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from harness.telemetry.event import Event
from harness.telemetry.worker_events import PhasesMeasured, WorkerDescribed, WorkerEnded, WorkerReady, WorkerStarted


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run began. `benchmark` is the benchmark's name, `command` the command line as a list."""

    event: Literal["run_started"] = "run_started"
    benchmark: str
    command: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunPlanned(Event):
    """The tasks to be done are known. Sent again if a stored object turned out damaged.

    `tasks` is the number of tasks whose results the store lacks, and `epochs` their cost in epochs of plain training.
    `epochs_in_all` is the cost of all tasks of the benchmark, `cells` the number of its cells.
    """

    event: Literal["planned"] = "planned"
    tasks: int
    epochs: float
    epochs_in_all: float
    cells: int


@dataclass(frozen=True, kw_only=True)
class EngineOpened(Event):
    """The engine is ready. `message` describes its processes and threads, and which tasks run at once."""

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
    """A warning for the user. The run continues."""

    event: Literal["warning"] = "warning"
    message: str


@dataclass(frozen=True, kw_only=True)
class ObserverFailed(Event):
    """An observer raised an exception and gets no more events. `observer` names its plugin."""

    event: Literal["observer_failed"] = "observer_failed"
    observer: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ObjectQuarantined(Event):
    """A damaged object or saved training state was moved to `path` and is computed again.

    `key` is the key of the object, or of the trajectory or derivation that the training state belongs to.
    """

    event: Literal["set_aside"] = "set_aside"
    key: str
    path: str
    message: str


@dataclass(frozen=True, kw_only=True)
class TaskEvent(Event):
    """Base class of events of a task.

    `task` is the task's key. `kind` is check, train, derive, predict or measure. The process that runs the benchmark adds the
    other fields:

    `dataset`, `architecture` and `methods` are labels of the benchmark file. `methods` are those that need the task's result,
    in the file's order. `seed` is one of the benchmark's seeds. `member` is the index of the member whose order of
    batches a training uses, or whose prediction is computed. `objective` and `metric` are names of plugins. `cost` is in
    epochs of plain training. `description` is a summary in one line.

    The parts of one training that are separate tasks have its `trajectory` in common: its key, empty for other tasks.
    `trained_for` is the first method, in the file's order, that needs the weights at the training's end.
    """

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
    trajectory: str = ""
    trained_for: str = ""


@dataclass(frozen=True, kw_only=True)
class TaskStarted(TaskEvent):
    """A worker began a task."""

    event: Literal["task_started"] = "task_started"


@dataclass(frozen=True, kw_only=True)
class TrainingStarted(TaskEvent):
    """A training begins or is resumed at `epoch`, with `threads` CPU threads. It ends at the end of epoch `until`."""

    event: Literal["train_started"] = "train_started"
    epoch: float
    until: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class TrainingStepped(TaskEvent):
    """It is known how the steps of a training are taken. Sent before its first step, in each process that continues it.

    `manner` is eager (operation by operation), captured (as a CUDA graph) or compiled (a CUDA graph of compiled kernels).
    `siblings` is the number of trainings that take their steps at once, this one included. `precision` is the recipe's. `tf32`
    says whether float32 is rounded to TF32. `fallback` is the reason why steps are not captured or not compiled, although that
    was tried. `device` is the name of the device, such as `NVIDIA H100 80GB HBM3`, or `cpu`.
    """

    event: Literal["train_stepped"] = "train_stepped"
    manner: str
    siblings: int
    precision: str
    tf32: bool
    fallback: str
    device: str


@dataclass(frozen=True, kw_only=True)
class EpochEnded(TaskEvent):
    """A training has reached the end of `epoch`. It ends at the end of epoch `until`.

    `loss` (nats) and `accuracy` (percent) are means over the epoch's augmented training images, computed during training.
    `learning_rate` is that of the epoch's last step. `seconds` is the duration of the epoch; if siblings (trainings of one
    setting) are trained side by side, that of the whole group.
    """

    event: Literal["epoch"] = "epoch"
    epoch: int
    until: int
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class DerivationEpochEnded(TaskEvent):
    """A derivation that trains has reached the end of its own `epoch`, in `seconds`. It is resumed from there."""

    event: Literal["derivation_epoch"] = "derivation_epoch"
    epoch: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TaskWaiting(TaskEvent):
    """A task waits because another run is doing it."""

    event: Literal["waiting"] = "waiting"
    message: str


@dataclass(frozen=True, kw_only=True)
class OutOfMemory(TaskEvent):
    """A group of tasks ran out of memory and is retried. `task` is the first of the group; `message` says how it is retried."""

    event: Literal["out_of_memory"] = "out_of_memory"
    message: str


@dataclass(frozen=True, kw_only=True)
class SiblingsSeparated(TaskEvent):
    """Training siblings side by side failed, so they are trained one by one. `task` is the first of them."""

    event: Literal["siblings_parted"] = "siblings_parted"
    message: str


@dataclass(frozen=True, kw_only=True)
class TaskRetried(TaskEvent):
    """A worker process ended during a task, or the task ran out of memory beside other workers. It is retried once, alone."""

    event: Literal["tried_again"] = "tried_again"
    message: str


@dataclass(frozen=True, kw_only=True)
class TaskEnded(TaskEvent):
    """A task ended. `status` is done, failed, damaged (an object that the task reads) or interrupted.

    `message` says why it was not done. `taken_over` is True if another run on the store did it meanwhile; its `cost` is not
    this run's. `time` is when the task ended: events of tasks that ended later may come before it.
    `seconds` is the time since its `TaskStarted`; None if there was no such event.
    """

    event: Literal["task_ended"] = "task_ended"
    status: str
    message: str = ""
    taken_over: bool = False
    seconds: float | None = None


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
    | TrainingStepped
    | EpochEnded
    | DerivationEpochEnded
    | TaskWaiting
    | OutOfMemory
    | SiblingsSeparated
    | TaskRetried
    | TaskEnded
    | WorkerStarted
    | WorkerReady
    | WorkerEnded
    | WorkerDescribed
    | PhasesMeasured
)

_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="event")])


def event_from_json(value: Any) -> Event:
    """Return an event from its JSON; raise `ValueError` if the JSON is no event."""
    try:
        return _ADAPTER.validate_python(value)
    except ValidationError as error:
        raise ValueError(f"no event: {error.errors()[0]['msg']}") from None
