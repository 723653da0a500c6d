"""Jobs of a stand-in for Slurm on nodes that cannot use the store as this machine does: full disks, locks that are not seen."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from cli.command_line import run_harness
from engines.conftest import FakeSlurm
from faults.bad_system import preloaded, two_mounts
from faults.rig import DIGITS, contents, events, temporary_files
from harness.store import Store

ENGINE = ("--engine", "slurm", "--engine-option", "status_every=0.5", "--engine-option", "jobs=2")

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def write(folder: Path) -> Path:
    """Write a benchmark file into a folder, and return the folder."""
    (folder / "small.yaml").write_text(yaml.safe_dump(DIGITS))
    return folder


def setup(variables: dict[str, str], condition: str = "true") -> tuple[str, str]:
    """Return the engine option with which jobs for which a condition of the shell holds get environment variables."""
    exports = " ".join(shlex.quote(f"{name}={value}") for name, value in variables.items())
    return "--engine-option", f"setup={[f'if {condition}; then export {exports}; fi']}"


def trained(folder: Path) -> list[str]:
    """Return the trainings that jobs began at epoch 0."""
    return [event["task"] for event in events(folder, "train_started") if event["epoch"] == 0]


def check_same(folder: Path) -> None:
    """Assert that the results equal those of the local engine, and that the store has nothing half-written."""
    run_harness("run", "small.yaml", "--workers", "1", "--out", "alone", "--store", "local", cwd=folder)
    store = Store(folder / "store")
    store.prepare()
    assert list(store.maintenance.find_corruption()) == []
    assert contents(store) == contents(Store(folder / "local"))
    assert (folder / "out" / "results.csv").read_bytes() == (folder / "alone" / "results.csv").read_bytes()
    del store
    assert temporary_files(Store(folder / "store")) == []


def test_node_whose_disk_is_full(tmp_path: Path, fake_slurm: FakeSlurm) -> None:
    """One line names the node, the store and what to do; other jobs do its tasks, and nothing is half-written."""
    folder = write(tmp_path)
    full = preloaded(tmp_path, BAD_FULL="/store/aside/", BAD_AFTER=20_000)
    words = (*ENGINE, *setup(full, "[ $SLURM_JOB_ID = 1 ]"), "--out", "out", "--store", "store")
    done = run_harness("run", "small.yaml", *words, cwd=folder)
    (line,) = [line for line in done.stderr.splitlines() if "no space left" in line]
    assert "store store: cannot take object " in line or f"store {folder / 'store'}: cannot take object " in line
    assert (
        "no space left on the device; free some, or move the store and name its place with --store (Slurm job 1 on node1"
        in line
    )
    assert line.endswith("; its tasks go to other workers")
    check_same(folder)


def test_store_that_is_full(tmp_path: Path, fake_slurm: FakeSlurm) -> None:
    """The run ends after three jobs, with the node's line and the command to go on; with room it goes on, and ends as any."""
    folder = write(tmp_path)
    full = preloaded(tmp_path, BAD_FULL="/store/aside/", BAD_AFTER=20_000)
    words = (*ENGINE, "--out", "out", "--store", "store")
    done = run_harness("run", "small.yaml", *words, *setup(full), cwd=folder, code=2)
    lines = [line for line in done.stderr.splitlines() if "no space left" in line]
    assert len(lines) == 3
    assert lines[-1].startswith("error: store ")
    assert "(Slurm job 3 on node1, log out/slurm/3.log)" in lines[-1]
    assert "To go on, once that is fixed:\n  harness run small.yaml" in done.stderr
    assert list(Store(folder / "store").maintenance.find_corruption()) == []
    run_harness("run", "small.yaml", *words, cwd=folder)
    check_same(folder)


def test_nodes_that_see_new_names_late(tmp_path: Path, fake_slurm: FakeSlurm) -> None:
    """The run looks for all objects before they exist. It sees those of its jobs as soon as they are done."""
    folder = write(tmp_path)
    with two_mounts(tmp_path, shared_locks=True, remember=1000.0) as (here, there):
        words = (
            *ENGINE,
            "--engine-option",
            f"setup={[f'cd {there}']}",
            "--out",
            folder / "out",
            "--store",
            "/proc/self/cwd/store",
        )
        done = run_harness("run", folder / "small.yaml", *words, cwd=here)
        assert len(trained(folder)) == 2
        assert "damaged" not in done.stderr
        (folder / "store").symlink_to(here / "store")
        check_same(folder)


def test_nodes_whose_locks_are_not_seen(tmp_path: Path, fake_slurm: FakeSlurm) -> None:
    """`harness doctor --engine` says what that means; a single run gives each task to one job, and trains nothing twice."""
    folder = write(tmp_path)
    words = (*ENGINE, *setup(preloaded(tmp_path, BAD_FLOCK=0, BAD_HOST="node2")), "--store", "store")
    done = run_harness("doctor", *words, cwd=folder, code=1)
    problem = (
        "locks     problem: locks of store do not reach node2: it locked what this process had locked; one run at a time may"
    )
    assert problem in done.stdout, done.stdout
    run_harness("run", "small.yaml", "--out", "out", *words, cwd=folder)
    tasks = trained(folder)
    assert len(tasks) == len(set(tasks)) == 2
    check_same(folder)
