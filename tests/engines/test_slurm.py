"""The engine `slurm` over a stand-in for Slurm: what it asks for, and what it tells if something goes wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
import toys
from conftest import toy_file
from engines.conftest import Driver, FakeSlurm, wait_for
from harness import Engine
from harness.cli.engine_options import parse_engine_options
from harness.errors import HarnessError, UserError
from harness.execution.probes import stored_probe
from harness.registry.catalogue import Catalogue, Registration
from harness.registry.discovery import Source
from harness.runs.engine import make_engine
from harness.telemetry.events import EngineOpened, RunWarning, TaskRetried, WorkerDescribed, WorkerStarted
from harness.testing import check_engine
from harness_slurm.engine import SlurmEngine
from harness_slurm.options import SlurmOptions, seconds_of

CATALOGUE = Catalogue([Registration("engine", "slurm", SlurmEngine, Source("slurm", "tests 0"))])
Drive = Callable[[Engine], Driver]


def engine_of(*pairs: str) -> Engine:
    """Return the engine with options as on the command line, and a short time between two questions to squeue."""
    return make_engine(CATALOGUE, "slurm", parse_engine_options(["status_every=0.2", *pairs]), {})


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("job=2", "--engine-option slurm: unknown key 'job'; did you mean 'jobs'?"),
        ("jobs=0", "--engine-option jobs: 0 is out of range; an integer of at least 1"),
        ("partition='a b'", "--engine-option partition: "),
        ("memory=8X", "--engine-option memory: "),
        ("gpus=2", "gpus is 2; 1, since each job is one worker on one GPU; ask for more jobs"),
        ("time_limit=soon", "time_limit is 'soon'; minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S"),
        ("time_limit=2", "time_limit is 120 seconds; more than save_before, which is 120"),
        ("extra=[nodes]", "'nodes' is no argument of sbatch; write --name=value"),
        ("extra=[--output=x]", "'--output=x': the engine sets --output itself; leave it out"),
        ('setup=["a\\nb"]', "is not one line of a shell script"),
    ],
)
def test_mistake_in_an_option(pair: str, message: str) -> None:
    """One line names the option, the value and what is allowed."""
    with pytest.raises(UserError) as error:
        engine_of(pair)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [(30, 1800), ("30", 1800), ("30:10", 1810), ("1:30:00", 5400), ("2-0", 172800), ("1-2:30", 95400), ("1-0:0:5", 86405)],
)
def test_time_limits(limit: int | str, seconds: int) -> None:
    """Every form that sbatch takes is understood."""
    assert seconds_of(limit) == seconds


@pytest.mark.parametrize("limit", ["", "1h", "1:2:3:4", "-5", "a-1"])
def test_text_that_is_no_time_limit(limit: str) -> None:
    """It gives None."""
    assert seconds_of(limit) is None


def test_arguments_of_sbatch() -> None:
    """Options become arguments; without options there are only those that a worker needs."""
    needed = ["--nodes=1", "--ntasks=1", "--cpus-per-task=2", "--signal=B:USR1@120"]
    assert SlurmOptions().arguments(threads=2) == needed
    options = SlurmOptions(
        partition="gpu,long",
        account="lab",
        qos="high",
        constraint="a100|h100",
        gpus="a100",
        cpus=4,
        memory="8G",
        time_limit="1-0",
        save_before=60,
        extra=("--exclude=node7",),
    )
    assert options.arguments(threads=1) == [
        *("--nodes=1", "--ntasks=1", "--cpus-per-task=4", "--signal=B:USR1@60"),
        *("--partition=gpu,long", "--account=lab", "--qos=high", "--constraint=a100|h100"),
        *("--gres=gpu:a100:1", "--mem=8G", "--time=1-0", "--exclude=node7"),
    ]
    assert "--gres=gpu:1" in SlurmOptions(gpus=1).arguments(1)


@pytest.mark.parametrize(
    ("options", "requested", "device"),
    [({}, "auto", "cpu"), ({"gpus": 1}, "auto", "cuda"), ({"gpus": 1}, "cpu", "cpu"), ({}, "cuda", "cuda")],
)
def test_device_of_the_jobs(options: dict[str, Any], requested: str, device: str) -> None:
    """It follows from the options, whatever this machine has."""
    assert SlurmEngine(SlurmOptions(**options)).device_for(requested) == device


def test_no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drive: Drive) -> None:
    """The message names the missing command and what to do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    message = "engine 'slurm': the command sbatch is not in PATH; start `harness run` on a machine of a Slurm cluster"
    with pytest.raises(UserError, match=message), drive(engine_of()):
        pass


def test_unknown_partition(fake_slurm: FakeSlurm, drive: Drive) -> None:
    """The run ends with sbatch's own message in one line."""
    message = "^sbatch: invalid partition specified: nope; Batch job submission failed: Invalid partition name specified$"
    with drive(engine_of("partition=nope")) as driver, pytest.raises(UserError, match=message):
        driver.run([0])
    assert fake_slurm.jobs() == []


def test_job_that_never_starts(fake_slurm: FakeSlurm, drive: Drive) -> None:
    """After the time-out the run ends with state, reason and the command to look; the job is cancelled."""
    fake_slurm.set_mode("pending")
    message = (
        r"^Slurm job 1 did not start within 0.5 seconds: PENDING \(Resources\); "
        r"`squeue --jobs=1 --start` shows more; ask for less, or raise start_timeout$"
    )
    with drive(engine_of("start_timeout=0.5")) as driver, pytest.raises(UserError, match=message):
        driver.run([0])
    assert fake_slurm.state(1) == "CANCELLED"


def test_controller_that_does_not_answer_at_once(fake_slurm: FakeSlurm, drive: Drive) -> None:
    """The job is submitted again."""
    fake_slurm.set_mode("unreachable")
    with drive(engine_of("setup=[sleep 60]")) as driver:
        driver.engine.submit([stored_probe(driver.store)])
        assert fake_slurm.jobs() == [1]


def test_worker_that_cannot_start(fake_slurm: FakeSlurm, drive: Drive, tmp_path: Path) -> None:
    """Three jobs are tried. The line names the job, its state and the last line of its log, which is DIR/slurm/<job>.log."""
    engine = engine_of('setup=["echo no module named cuda", "exit 3"]')
    with drive(engine) as driver, pytest.raises(HarnessError) as error:
        driver.run([0])
    log = tmp_path / "slurm" / "3.log"
    place = f"(Slurm job 3 on node1, log {log})"
    start = f"a worker process did not start: state FAILED (NonZeroExitCode) {place}; its log {log}"
    assert str(error.value) == f"{start} ends with: no module named cuda"
    assert fake_slurm.jobs() == [1, 2, 3]
    assert len(driver.messages(RunWarning)) == 2
    (message,) = driver.messages(EngineOpened)
    assert message == f"up to 8 Slurm jobs, logs in {tmp_path / 'slurm'}"


@pytest.mark.slow
def test_contract(fake_slurm: FakeSlurm, tmp_path: Path) -> None:
    """The engine satisfies the contract of engines."""

    def kill(worker: WorkerStarted) -> None:
        os.kill(worker.process, signal.SIGKILL)

    check_engine(SlurmEngine, tmp_path, {"jobs": 2, "status_every": 0.2}, kill)


@pytest.mark.faults
def test_jobs_that_have_to_leave(fake_slurm: FakeSlurm, drive: Drive) -> None:
    """A job near its time limit saves and ends, then a node is lost: other jobs go on, and no task counts as crashed."""
    started: list[int] = []

    def end_job(event: object) -> None:
        if not isinstance(event, WorkerDescribed):
            return
        job = fake_slurm.jobs()[-1]
        started.append(job)
        if len(started) == 1:
            os.kill(fake_slurm.pid(job), signal.SIGUSR1)
        elif len(started) == 2:
            fake_slurm.set_state(job, "NODE_FAIL")
            os.kill(fake_slurm.pid(job), signal.SIGKILL)

    with drive(engine_of("jobs=1")) as driver:
        driver.on_event = end_job
        (outcome,) = driver.run([5])
        wait_for(lambda: len(started) == 3, 1)
    assert outcome.status == "done"
    assert started == [1, 2, 3]
    first, second = driver.messages(TaskRetried)
    assert first.startswith("its worker process ended with SIGUSR1, after it had saved (Slurm job 1")
    assert second.startswith("its worker process ended with state NODE_FAIL (Slurm job 2 on node1, log ")
    assert first.endswith("before it was done; another worker goes on")


def test_precision_of_other_machines(fake_slurm: FakeSlurm, tmp_path: Path) -> None:
    """Nobody here knows what `auto` means on the GPUs of the jobs; the message says how to name the precision."""
    message = (
        r"^engine 'slurm': recipe.precision is 'auto', and the GPUs are those of other machines; "
        r"name it: --set recipe.precision=bf16 \(compute capability 8.0 or higher\) or fp32$"
    )
    registrations = [new for new in toys.catalogue() if new.cls is not SlurmEngine]
    catalogue = Catalogue([*registrations, *CATALOGUE])
    with pytest.raises(UserError, match=message):
        harness.run(
            toy_file(tmp_path),
            out=tmp_path / "out",
            store=tmp_path / "store",
            data=tmp_path,
            engine="slurm",
            engine_options={"gpus": 1},
            progress=False,
            catalogue=catalogue,
        )
    assert fake_slurm.jobs() == []
