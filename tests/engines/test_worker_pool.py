"""What a pool decides about its workers. They are scripted: no processes are started."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import EngineContext, Outcome, Task, engines
from harness.api.specs import ProbeSpec
from harness.errors import HarnessError, Interrupted, StoreError
from harness.execution.worker_messages import Refusal
from harness.telemetry.events import Event, RunWarning, TaskRetried, TaskStarted, WorkerReady

CRASHED = engines.Exit("exit code 3")
LEFT = engines.Exit("state NODE_FAIL", engines.ExitCause.LEFT)
STOPPED = engines.Exit("exit code 143", engines.ExitCause.STOPPED)


class ScriptedWorker(engines.WorkerHandle):
    """A worker that reacts to each group of tasks as the script says, and records what it is asked."""

    def __init__(self, scene: Scene, deliver: engines.Deliver) -> None:
        self.scene = scene
        self.deliver = deliver
        self.asked: list[str] = []

    @property
    def place(self) -> str:
        return "job 7 on node1"

    def send(self, keys: Sequence[str]) -> None:
        self.scene.groups.append(list(keys))
        react = self.scene.script.pop(0) if self.scene.script else done
        react(self, keys)

    def finish(self) -> None:
        self.asked.append("finish")
        if self.scene.obeys:
            self.deliver(engines.Exit("exit code 0"))

    def stop(self) -> None:
        self.asked.append("stop")

    def kill(self) -> None:
        self.asked.append("kill")

    def join(self, deadline: float) -> None:
        self.asked.append("join")


React = Callable[[ScriptedWorker, Sequence[str]], None]


def done(worker: ScriptedWorker, keys: Sequence[str]) -> None:
    """Do all tasks."""
    for key in keys:
        worker.deliver(TaskStarted(task=key, kind="probe"))
        worker.deliver(Outcome(key, "done"))


def silent(worker: ScriptedWorker, keys: Sequence[str]) -> None:
    """Begin the first task, and say nothing more."""
    worker.deliver(TaskStarted(task=keys[0], kind="probe"))


def ends(end: engines.Exit) -> React:
    """Return a reaction: the worker begins the first task, and ends."""

    def react(worker: ScriptedWorker, keys: Sequence[str]) -> None:
        silent(worker, keys)
        worker.deliver(end)

    return react


def says(delivery: engines.Delivery) -> React:
    """Return a reaction: the worker delivers something."""
    return lambda worker, keys: worker.deliver(delivery)


class Scene(engines.Launcher):
    """A pool of scripted workers. `starts` are what they deliver at first, one for each; the others become ready.

    If it `obeys`, a worker that is asked to finish has ended at once.
    """

    obeys = False

    def __init__(self, script: Sequence[React] = (), starts: Sequence[engines.Delivery] = (), **policy: Any) -> None:
        self.script, self.starts = list(script), list(starts)
        self.workers: list[ScriptedWorker] = []
        self.groups: list[list[str]] = []
        self.events: list[Event] = []
        self.stop = False
        self.closed = 0
        context = EngineContext(
            store=Path("store"),
            data=Path("data"),
            folder=Path("out"),
            device="cpu",
            emit=self.events.append,
            stopping=lambda: self.stop,
            run_here=lambda group: [],
            code="",
        )
        self.pool = engines.WorkerPool(context, self, engines.PoolPolicy(**{"limit": 1, "whole_groups": False, **policy}))

    def launch(self, index: int, deliver: engines.Deliver) -> ScriptedWorker:
        worker = ScriptedWorker(self, deliver)
        self.workers.append(worker)
        deliver(self.starts.pop(0) if self.starts else WorkerReady(process=1))
        return worker

    def close(self) -> None:
        self.closed += 1

    def run(self, *keys: str) -> dict[str, Outcome]:
        """Submit a group, and return all outcomes by key."""
        self.pool.submit([Task(key, ProbeSpec(token=key, lease=""), (), "probes") for key in keys])
        ended: dict[str, Outcome] = {}
        while len(ended) < len(keys):
            for outcome in self.pool.wait():
                assert outcome.key not in ended
                ended[outcome.key] = outcome
        return ended

    def messages(self, kind: type[Event]) -> list[str]:
        return [event.message for event in self.events if isinstance(event, kind)]  # type: ignore[attr-defined]


def test_siblings_on_cpus() -> None:
    """Each task goes to an idle worker; no more workers are started than the limit."""
    scene = Scene(limit=2)
    assert {outcome.status for outcome in scene.run("a", "b", "c").values()} == {"done"}
    assert sorted(scene.groups) == [["a"], ["b"], ["c"]]
    assert len(scene.workers) == 2


def test_siblings_on_a_device() -> None:
    """One worker gets the whole group."""
    scene = Scene(limit=2, whole_groups=True)
    scene.run("a", "b", "c")
    assert scene.groups == [["a", "b", "c"]]
    assert len(scene.workers) == 1


@pytest.mark.parametrize(
    ("workers", "ready", "groups", "size"),
    [(1, 25, 1, 25), (8, 25, 1, 4), (8, 25, 3, 13), (8, 25, 8, 25), (8, 25, 100, 25), (1000, 25, 1, 1), (3, 1, 1, 1)],
)
def test_siblings_on_several_devices(workers: int, ready: int, groups: int, size: int) -> None:
    """They are divided among the workers that no other group has; on CPUs each is handed out alone."""
    assert Scene(limit=workers, whole_groups=True).pool.group_size(ready, groups) == size
    assert Scene(limit=workers, whole_groups=False).pool.group_size(ready, groups) == 1


def test_capacity() -> None:
    """There is capacity for as many groups as there can be workers, though none is ready yet."""
    scene = Scene(limit=2, whole_groups=True)
    for key in ("a", "b"):
        assert scene.pool.has_capacity
        scene.pool.submit([Task(key, ProbeSpec(token=key, lease=""), (), key)])
    assert not scene.pool.has_capacity


def test_task_that_kills_its_worker() -> None:
    """It is tried once more and then fails; the tasks of the group that were not begun are done."""
    scene = Scene([ends(CRASHED), done, ends(CRASHED)], whole_groups=True)
    ended = scene.run("a", "b")
    assert ended["a"].status == "failed"
    assert ended["a"].message == "its worker process ended with exit code 3 before it was done, twice"
    assert ended["b"].status == "done"
    assert scene.groups == [["a", "b"], ["b"], ["a"]]
    message = "its worker process ended with exit code 3 before it was done; tried once more, alone"
    assert scene.messages(TaskRetried) == [message]


@pytest.mark.parametrize(("isolated", "groups"), [(False, [["a"], ["b"], ["a"]]), (True, [["a"], ["a"], ["b"]])])
def test_second_try(isolated: bool, groups: list[list[str]]) -> None:
    """It waits until nothing else is to be done, unless workers have memory of their own."""
    scene = Scene([ends(CRASHED)], isolated=isolated)
    scene.run("a", "b")
    assert scene.groups == groups


def test_workers_that_have_to_leave() -> None:
    """Others continue the task, however often that happens."""
    scene = Scene([ends(LEFT)] * 5, start_attempts=3)
    assert scene.run("a")["a"].status == "done"
    assert scene.groups == [["a"]] * 6
    message = "its worker process ended with state NODE_FAIL before it was done; another worker goes on"
    assert scene.messages(TaskRetried) == [message] * 5


def test_worker_that_fails_to_start() -> None:
    """Another one is started, with a warning, until too many in a row have failed."""
    scene = Scene(starts=[CRASHED, LEFT], start_attempts=3)
    assert scene.run("a")["a"].status == "done"
    first = "a worker process did not start: exit code 3; what it said stands above; another one is started"
    assert scene.messages(RunWarning)[0] == first
    with pytest.raises(HarnessError, match=r"^a worker process did not start: exit code 3; what it said stands above$"):
        Scene(starts=[CRASHED, CRASHED, CRASHED], start_attempts=3).run("a")


@pytest.mark.parametrize(
    ("delivery", "error"),
    [
        (STOPPED, Interrupted),
        (Outcome("a", "interrupted"), Interrupted),
        (Refusal("store_refused", "no space left"), StoreError),
        (Refusal("code_refused", "other code"), HarnessError),
        (HarnessError("the queue is closed"), HarnessError),
    ],
)
def test_end_of_the_run(delivery: engines.Delivery, error: type[Exception]) -> None:
    """A worker that was asked to stop with the run, that refuses to work, or a launcher that gives up, ends it."""
    with pytest.raises(error) as raised:
        Scene([says(delivery)]).run("a")
    assert type(raised.value) is error


def test_stop() -> None:
    """Busy workers save, idle ones finish; the launcher is closed after all have ended."""
    scene = Scene()
    scene.script.append(lambda worker, keys: setattr(scene, "stop", True))
    with pytest.raises(Interrupted):
        scene.run("a")
    scene.pool.close()
    assert scene.workers[0].asked == ["finish", "stop", "join"]
    assert scene.closed == 1


def test_failure_elsewhere() -> None:
    """The message names the place; a worker in which a plugin failed gets no more tasks."""
    failed = Outcome("a", "failed", "division by zero", traceback="Traceback")
    scene = Scene([says(failed)])
    assert scene.run("a")["a"].message == "division by zero (job 7 on node1)"
    assert scene.workers[0].asked == ["finish"]


def full(worker: ScriptedWorker, keys: Sequence[str]) -> None:
    """Begin the first task, find that the store cannot be written, and exit."""
    silent(worker, keys)
    worker.deliver(Refusal("store_refused", "store s: cannot take object a: no space left on the device; free some"))
    worker.deliver(engines.Exit("exit code 2"))


def test_store_that_one_node_cannot_write() -> None:
    """A warning names the place, and another worker does the task; a task that is done resets the count."""
    scene = Scene([full, full, done, full, full, done], start_attempts=3)
    assert {outcome.status for outcome in scene.run("a", "b").values()} == {"done"}
    message = (
        "store s: cannot take object a: no space left on the device; free some (job 7 on node1); its tasks go to other workers"
    )
    assert scene.messages(RunWarning) == [message] * 4
    assert scene.groups == [["a"], ["a"], ["a"], ["b"], ["b"], ["b"]]


def test_store_that_no_node_can_write() -> None:
    """The run ends with the last worker's message, which names its place."""
    message = r"^store s: cannot take object a: no space left on the device; free some \(job 7 on node1\)$"
    scene = Scene([full, full, full], start_attempts=3)
    with pytest.raises(StoreError, match=message):
        scene.run("a")
    with pytest.raises(StoreError, match=message):
        Scene([full]).run("a")


def exhausted(worker: ScriptedWorker, keys: Sequence[str]) -> None:
    """Fail the first task with an out-of-memory error."""
    silent(worker, keys)
    worker.deliver(Outcome(keys[0], "failed", "out of memory", out_of_memory=True))


def test_task_that_fits_only_without_other_workers() -> None:
    """It waits until nothing else is to be done; all workers but one end, though they are idle; then it is tried once more."""
    scene = Scene([exhausted], limit=2)
    scene.obeys = True
    assert {outcome.status for outcome in scene.run("a", "b", "c").values()} == {"done"}
    assert scene.groups == [["a"], ["b"], ["c"], ["a"]]
    assert scene.messages(TaskRetried) == ["out of memory beside other workers; tried once more, without them"]
    assert sum("finish" in worker.asked for worker in scene.workers) == 1


def test_task_that_never_fits() -> None:
    """It fails for good after the second try, and its message says that others were not the reason."""
    scene = Scene([exhausted, done, exhausted], limit=2)
    scene.obeys = True
    ended = scene.run("a", "b")
    assert ended["b"].status == "done"
    assert ended["a"].message == "out of memory; it was tried without other workers, too (job 7 on node1)"
    assert scene.groups == [["a"], ["b"], ["a"]]


@pytest.mark.parametrize("policy", [{"limit": 1}, {"limit": 2, "isolated": True}], ids=str)
def test_task_that_does_not_fit_into_memory_of_its_own(policy: dict[str, Any]) -> None:
    """Nobody else uses that memory, so it fails at once."""
    scene = Scene([exhausted], **policy)
    assert scene.run("a")["a"].message == "out of memory (job 7 on node1)"
    assert scene.messages(TaskRetried) == []


def test_silence() -> None:
    """The task fails, its worker is killed, and the others are done by another worker."""
    scene = Scene([silent], whole_groups=True, task_timeout=0.1, limit=2)
    ended = {}
    scene.pool.submit([Task(key, ProbeSpec(token=key, lease=""), (), "g") for key in ("a", "b")])
    for outcome in scene.pool.wait():
        ended[outcome.key] = outcome
    message = "no sign of life for 0.1 seconds (--task-timeout); its worker process was ended (job 7 on node1)"
    assert ended["a"].message == message
    assert scene.workers[0].asked == ["kill"]
    scene.workers[0].deliver(engines.Exit("signal 9"))
    assert [outcome.key for outcome in scene.pool.wait()] == ["b"]


def test_idle_worker() -> None:
    """It is asked to finish after a time, while another one works on."""
    scene = Scene([done, silent], limit=2, idle_timeout=0.1)
    scene.pool.submit([Task(key, ProbeSpec(token=key, lease=""), (), "g") for key in ("a", "b")])
    assert len(scene.pool.wait()) == 1
    idle, busy = scene.workers
    threading.Timer(0.6, lambda: busy.deliver(Outcome("b", "done"))).start()
    assert [outcome.key for outcome in scene.pool.wait()] == ["b"]
    assert idle.asked == ["finish"]
    assert busy.asked == []


def test_wait_for_nothing() -> None:
    """It is an error of the caller."""
    with pytest.raises(HarnessError, match="asked to wait for nothing"):
        Scene().pool.wait()
