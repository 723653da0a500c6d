"""`harness run --engine slurm` on a real Slurm of one node: results are the local engine's, whatever happens to jobs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.command_line import FILE, run_harness
from engines.conftest import wait_for
from faults.rig import contents, epochs_repeated, events, temporary_files
from harness.store import Store
from harness.telemetry.events import WorkerStarted
from harness.testing import check_engine
from harness_slurm.engine import SlurmEngine

SCRIPT = Path(__file__).parent / "local_slurm.sh"
ENGINE = ("--engine", "slurm", "--engine-option", "jobs=2", "--engine-option", "status_every=0.5")
LONG: dict[str, Any] = {**FILE, "methods": ["deep"], "recipe": {**FILE["recipe"], "epochs": 20, "learning_rate": 0.02}}

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm of one node, to which Slurm's commands lead."""
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True, check=False)
    if started.returncode == 3:
        pytest.skip(started.stderr.strip())
    assert started.returncode == 0, started.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", started.stdout.strip().removeprefix("export SLURM_CONF="))
        yield
        subprocess.run([SCRIPT, "stop", folder], check=True)


def write(folder: Path, benchmark: dict[str, Any]) -> Path:
    """Write a benchmark file into a new folder, and return the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(benchmark))
    return folder


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark of a folder; it must succeed."""
    return run_harness("run", "small.yaml", "--out", "out", "--store", "store", *words, cwd=folder)


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a run of the benchmark of a folder in jobs."""
    command = [sys.executable, "-m", "harness", "run", "small.yaml", "--out", "out", "--store", "store", *ENGINE, *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a run, which must succeed; return what it wrote to standard error."""
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    return errors


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the long benchmark on the local engine."""
    folder = write(tmp_path_factory.mktemp("whole"), LONG)
    run(folder, "--workers", "2")
    return folder


def check_same(folder: Path, other: Path) -> None:
    """Assert that two folders have equal rows, and equal weights to the bit, and that no job is left."""
    wait_for(lambda: jobs() == [], 90)
    store = Store(folder / "store")
    store.prepare()
    assert list(store.maintenance.find_corruption()) == []
    assert contents(store) == contents(Store(other / "store"))
    assert (folder / "out" / "results.csv").read_bytes() == (other / "out" / "results.csv").read_bytes()
    del store
    assert temporary_files(Store(folder / "store")) == []


def jobs(state: str = "pending,running,completing") -> list[str]:
    """Return the jobs in some states."""
    command = ["squeue", "--noheader", "--format=%i", f"--states={state}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def wait_for_epochs(folder: Path, count: int) -> None:
    """Wait until a run has logged a number of epochs."""
    wait_for(lambda: len(events(folder, "epoch")) >= count, 300)


def test_results_of_jobs(tmp_path: Path) -> None:
    """Rows and weights equal the local engine's; events, profile and logs tell of the jobs."""
    here = write(tmp_path / "here", FILE)
    there = write(tmp_path / "there", FILE)
    run(here, "--workers", "2")
    done = run(there, *ENGINE, "--profile")
    check_same(there, here)
    assert "slurm engine: up to 2 Slurm jobs, logs in out/slurm" in done.stderr
    places = {event["place"] for event in events(there, "worker_started")}
    assert places <= {f"Slurm job {log.stem}" for log in (there / "out" / "slurm").glob("*.log")}
    assert len(places) in (1, 2)  # the first may have done all before the second has started
    assert {event["code"] for event in events(there, "worker_ended")} == {0}
    assert re.search(r"profile: .* in [12] worker", done.stderr)


def test_doctor(tmp_path: Path) -> None:
    """It tells what a worker sees."""
    done = run_harness("doctor", "--engine", "slurm", "--store", "store", cwd=tmp_path)
    for line in (
        r"engine +slurm: up to 8 Slurm jobs",
        r"worker .*same code",
        r"locks +a lock .* is seen on",
        r"clock .* agrees",
    ):
        assert re.search(line, done.stdout), done.stdout
    wrong = run_harness("doctor", "--engine", "slurm", "--engine-option", "partition=nope", cwd=tmp_path, code=1)
    assert "worker    problem: sbatch: invalid partition specified: nope" in wrong.stdout


@pytest.mark.faults
def test_contract(tmp_path: Path) -> None:
    """The engine satisfies the contract of engines."""

    def kill(worker: WorkerStarted) -> None:
        os.kill(worker.process, signal.SIGKILL)

    check_engine(SlurmEngine, tmp_path, {"jobs": 2, "status_every": 0.5}, kill)


@pytest.mark.faults
def test_run_that_is_killed(tmp_path: Path, whole: Path) -> None:
    """Its jobs save and end; a run that is started at once waits for them, goes on, and trains no epoch twice."""
    folder = write(tmp_path / "run", LONG)
    timeout = ("--engine-option", "run_timeout=15")
    process = start(folder, *timeout)
    wait_for_epochs(folder, 6)
    before = jobs("running")
    assert before
    process.kill()
    process.communicate()
    finish(start(folder, *timeout))
    wait_for(lambda: not set(before) & set(jobs()), 60)
    check_same(folder, whole)
    assert epochs_repeated(folder) <= len(before)  # the events of one epoch each may have been in the mailbox


def scancel(job: str) -> None:
    """Cancel a job."""
    subprocess.run(["scancel", job], check=True)


def requeue(job: str) -> None:
    """Let Slurm stop a job and start it again."""
    subprocess.run(["scontrol", "requeue", job], check=True)


def reach_time_limit(job: str) -> None:
    """Send the signal that Slurm sends before the time limit."""
    subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True)


def kill_worker(job: str) -> None:
    """Kill the worker of a job."""
    subprocess.run(["scancel", "--batch", "--signal=KILL", job], check=True)


@pytest.mark.faults
def test_jobs_that_end_in_the_middle_of_an_epoch(tmp_path: Path, whole: Path) -> None:
    """Other jobs go on; a line names each job and its log. Only the job that is killed could not save."""
    folder = write(tmp_path / "run", LONG)
    process = start(folder)
    ended = []
    for count, fault in ((4, scancel), (10, requeue), (16, reach_time_limit), (22, kill_worker)):
        wait_for_epochs(folder, count)
        job = busy_job(folder)
        fault(job)
        ended.append(job)
    errors = finish(process)
    check_same(folder, whole)
    for job in ended:
        assert f"(Slurm job {job} on " in errors, errors
        assert f", log out/slurm/{job}.log) before it was done; " in errors
    assert "its worker process ended with SIGTERM, after it had saved (Slurm job" in errors
    assert "its worker process ended with SIGUSR1, after it had saved (Slurm job" in errors
    assert epochs_repeated(folder) <= 20  # a killed worker has saved nothing, since a minute has not passed


def busy_job(folder: Path) -> str:
    """Return a running job that trains."""
    busy = {event["place"].split()[-1] for event in events(folder, "worker_ready")} & set(jobs("running"))
    return min(busy, key=int)


@pytest.mark.faults
def test_real_time_limit(tmp_path: Path, whole: Path) -> None:
    """Jobs with a limit of a minute save before it and are replaced until the work is done."""
    folder = write(tmp_path / "run", LONG)
    errors = finish(start(folder, "--engine-option", "time_limit=1", "--engine-option", "save_before=20"))
    check_same(folder, whole)
    assert "Traceback" not in errors


@pytest.mark.faults
def test_full_disk(tmp_path: Path) -> None:
    """A line names the node, the store and what to do; with room the same command goes on, and ends as the local engine."""
    folder = write(tmp_path / "run", FILE)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "none", disk], check=True)
    try:
        words = ("run", "small.yaml", "--out", "out", "--store", disk / "store", *ENGINE)
        done = run_harness(*words, cwd=folder, code=2)
        line = done.stderr.split("error: ")[1].splitlines()[0]
        assert re.match(rf"store {disk / 'store'}: cannot .*: no space left on the device; free some, or move", line), line
        assert re.search(r"\(Slurm job \d+ on \w+, log out/slurm/\d+\.log\)$", line), line
        assert "To go on, once that is fixed:\n  harness run small.yaml" in done.stderr
        assert list(Store(disk / "store").maintenance.find_corruption()) == []
        subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
        run_harness(*words, cwd=folder)
        (folder / "store").symlink_to(disk / "store")
        run(write(tmp_path / "whole", FILE), "--workers", "2")
        check_same(folder, tmp_path / "whole")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.faults
def test_two_runs_on_one_store(tmp_path: Path, whole: Path) -> None:
    """No task is done twice, and both have the rows of a run alone."""
    folder = write(tmp_path / "run", LONG)
    processes = [start(folder, "--out", out) for out in ("out", "second")]
    for process in processes:
        finish(process)
    check_same(folder, whole)
    assert (folder / "second" / "results.csv").read_bytes() == (whole / "out" / "results.csv").read_bytes()
    tasks = [
        event["task"] for out in ("out", "second") for event in events(folder, "train_started", out) if event["epoch"] == 0
    ]
    assert len(tasks) == len(set(tasks))
