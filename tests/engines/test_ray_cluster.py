"""`harness run --engine ray` on a real cluster of several nodes: results are the local engine's, whatever happens to nodes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.command_line import FILE, python_path, run_harness, write_plugin
from engines.conftest import wait_for
from engines.ray_cluster import RayCluster
from faults.rig import contents, epochs_repeated, events, temporary_files
from harness.store import Store
from harness.telemetry.events import WorkerStarted
from harness.testing import check_engine
from harness_ray.engine import RayEngine

LONG: dict[str, Any] = {**FILE, "methods": ["deep"], "recipe": {**FILE["recipe"], "epochs": 20, "learning_rate": 0.02}}
BOTH = pytest.mark.parametrize("share_store", ["yes", "no"])

pytestmark = [pytest.mark.slow]


def new_cluster(folder: Path, *names: str) -> RayCluster:
    """Start a cluster with nodes, each with a temporary folder of its own."""
    cluster = RayCluster(folder / "cluster.log")
    for name in names:
        add_node(cluster, folder, name)
    return cluster


def add_node(cluster: RayCluster, folder: Path, name: str, **environment: str) -> None:
    """Add a node with a temporary folder of its own."""
    (folder / name).mkdir()
    cluster.add(name, TMPDIR=str(folder / name), **environment)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A cluster of two nodes that no test changes."""
    cluster = new_cluster(tmp_path_factory.mktemp("ray"), "first", "second")
    yield cluster
    cluster.close()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[RayCluster]:
    """A cluster of two nodes, `first` and `second`, that a test may change."""
    cluster = new_cluster(tmp_path, "first", "second")
    yield cluster
    cluster.close()


def options(cluster: RayCluster, share_store: str = "auto", actors: int = 2) -> list[str]:
    """Return the words of a command that choose the engine and its options."""
    words = ["--engine", "ray"]
    for pair in (f"address={cluster.address}", f"actors={actors}", f"share_store={share_store}"):
        words += ["--engine-option", pair]
    return words


def write(folder: Path, benchmark: dict[str, Any]) -> Path:
    """Write a benchmark file into a new folder, and return the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(benchmark))
    return folder


def run(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the benchmark of a folder."""
    return run_harness("run", "small.yaml", "--out", "out", "--store", "store", *words, cwd=folder, code=code)


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a run of the benchmark of a folder."""
    command = [sys.executable, "-m", "harness", "run", "small.yaml", "--out", "out", "--store", "store", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=environment)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """Wait for a run; return what it wrote to standard error."""
    _, errors = process.communicate(timeout=400)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    return errors


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the long benchmark on the local engine."""
    folder = write(tmp_path_factory.mktemp("whole"), LONG)
    run(folder, "--workers", "1")
    return folder


def check_same(folder: Path, other: Path) -> None:
    """Assert that two folders have equal rows, and equal weights to the bit, and that nothing temporary is left."""
    store = Store(folder / "store")
    store.prepare()
    assert list(store.maintenance.find_corruption()) == []
    assert contents(store) == contents(Store(other / "store"))
    assert (folder / "out" / "results.csv").read_bytes() == (other / "out" / "results.csv").read_bytes()
    del store
    assert temporary_files(Store(folder / "store")) == []


def wait_for_epochs(folder: Path, count: int) -> None:
    """Wait until a run has logged a number of epochs."""
    wait_for(lambda: len(events(folder, "epoch")) >= count, 300)


def test_results_of_actors(tmp_path: Path, cluster: RayCluster) -> None:
    """Rows and weights equal the local engine's, whether the nodes see the store or not; events and logs tell of the actors."""
    here = write(tmp_path / "here", FILE)
    run(here, "--workers", "1")
    for share_store, actors in (("auto", 1), ("no", 2)):
        there = write(tmp_path / share_store, FILE)
        done = run(there, *options(cluster, share_store, actors), "--profile")
        check_same(there, here)
        there_is = rf"the Ray cluster {cluster.address} \(3 nodes, 2 CPU, 0 GPU\)"
        opened = rf"ray engine: up to {actors} actors? with 1 CPU each on {there_is}"
        assert re.search(opened, done.stderr), done.stderr
        places = {event["place"] for event in events(there, "worker_started")}
        assert places <= {f"Ray actor {log.stem}" for log in (there / "out" / "ray").glob("*/*.log")}
        ready = {(event["process"], event["place"]) for event in events(there, "worker_ready")}
        ended = [event for event in events(there, "worker_ended") if (event["process"], event["place"]) in ready]
        assert {event["code"] for event in ended} == {0}  # one that is still starting at the end is killed
        assert re.search(r"profile: .* in [12] worker", done.stderr)
    assert list(tmp_path.parent.rglob(f"basin-harness-{os.getuid()}/*")) == []


@BOTH
@pytest.mark.faults
def test_contract(tmp_path: Path, cluster: RayCluster, share_store: str) -> None:
    """The engine satisfies the contract of engines."""

    def kill(worker: WorkerStarted) -> None:
        os.kill(worker.process, signal.SIGKILL)

    check_engine(RayEngine, tmp_path, {"address": cluster.address, "actors": 2, "share_store": share_store}, kill)


@BOTH
@pytest.mark.faults
def test_doctor(tmp_path: Path, cluster: RayCluster, share_store: str) -> None:
    """It tells what a worker sees."""
    words = options(cluster, share_store)
    done = run_harness("doctor", *words, "--store", "store", cwd=tmp_path)
    for line in (r"engine +ray: up to 2 actors", r"worker .*same code", r"locks +a lock .* is seen on", r"clock .* agrees"):
        assert re.search(line, done.stdout), done.stdout


@BOTH
@pytest.mark.faults
def test_node_that_is_lost(tmp_path: Path, own_cluster: RayCluster, whole: Path, share_store: str) -> None:
    """The tasks that it held go to an actor on the other node."""
    folder = write(tmp_path / "run", LONG)
    process = start(folder, *options(own_cluster, share_store))
    wait_for_epochs(folder, 4)
    own_cluster.remove(busy_node(folder))
    errors = finish(process)
    check_same(folder, whole)
    lost = r"ended with the loss of its node \(Ray actor \d+ on .*, log .*\) before it was done; another worker goes on"
    assert re.search(lost, errors), errors


def busy_node(folder: Path) -> str:
    """Return the name of the node of the worker that was ready first, from its temporary folder."""
    process = events(folder, "worker_ready")[0]["process"]
    variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    (temporary,) = [value for value in variables if value.startswith(b"TMPDIR=")]
    return Path(temporary.decode()).name


@pytest.mark.faults
def test_node_that_joins(tmp_path: Path, one_node: Callable[..., RayCluster]) -> None:
    """An actor that found no room is placed on it; the command goes on after it was asked to stop."""
    cluster = one_node()
    folder = write(tmp_path / "run", {**LONG, "recipe": {**LONG["recipe"], "epochs": 4000}})
    process = start(folder, *options(cluster))
    wait_for_epochs(folder, 2)
    assert len(events(folder, "worker_ready")) == 1
    add_node(cluster, tmp_path, "joined")
    wait_for(lambda: len({event["task"] for event in events(folder, "epoch")}) == 2, 200)
    assert {event["place"] for event in events(folder, "worker_ready")} == {"Ray actor 1", "Ray actor 2"}
    process.terminate()
    finish(process, code=143)


@BOTH
@pytest.mark.faults
def test_actor_that_is_killed(tmp_path: Path, cluster: RayCluster, whole: Path, share_store: str) -> None:
    """Its task is tried once more, in a new actor."""
    folder = write(tmp_path / "run", LONG)
    process = start(folder, *options(cluster, share_store))
    wait_for_epochs(folder, 4)
    worker = events(folder, "worker_started")[0]["process"]
    os.kill(parent_of(worker), signal.SIGKILL)
    errors = finish(process)
    check_same(folder, whole)
    assert re.search(
        r"ended with the death of its actor \(Ray actor \d+ on .*, log .*\) before it was done; tried once", errors
    )


def parent_of(process: int) -> int:
    """Return the process ID of a process's parent."""
    done = subprocess.run(["ps", "-o", "ppid=", "-p", str(process)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.faults
def test_head_that_is_gone(tmp_path: Path, own_cluster: RayCluster) -> None:
    """The run ends with one line; the same command, with another engine here, goes on where the workers have saved."""
    folder = write(tmp_path / "run", {**LONG, "recipe": {**LONG["recipe"], "epochs": 4000}})
    process = start(folder, *options(own_cluster))
    wait_for_epochs(folder, 4)
    own_cluster.kill_head()
    errors = finish(process, code=1)
    last = errors.strip().splitlines()[-1]
    pattern = r"the connection to the Ray cluster .* was lost; the same command again goes on .*client\.log ends with: .*GCS"
    assert re.search(pattern, last), errors
    again = start(folder, "--workers", "1")
    wait_for(lambda: any(event["epoch"] > 3 for event in events(folder, "train_started")), 200)
    again.terminate()
    finish(again, code=143)


@BOTH
@pytest.mark.faults
def test_run_that_is_killed(tmp_path: Path, cluster: RayCluster, whole: Path, share_store: str) -> None:
    """Its workers save and end; a run that is started at once waits for them, goes on, and trains no epoch twice."""
    folder = write(tmp_path / "run", LONG)
    process = start(folder, *options(cluster, share_store))
    wait_for_epochs(folder, 6)
    process.kill()
    process.communicate()
    finish(start(folder, *options(cluster, share_store)))
    check_same(folder, whole)
    assert epochs_repeated(folder) <= 2  # one epoch of each worker may have ended after the run was killed


@BOTH
@pytest.mark.faults
def test_two_runs_on_one_store(tmp_path: Path, cluster: RayCluster, whole: Path, share_store: str) -> None:
    """No task is done twice, and both have the rows of a run alone."""
    folder = write(tmp_path / "run", LONG)
    words = options(cluster, share_store, actors=1)
    processes = [start(folder, *words, "--out", out) for out in ("out", "second")]
    for process in processes:
        finish(process)
    check_same(folder, whole)
    assert (folder / "second" / "results.csv").read_bytes() == (whole / "out" / "results.csv").read_bytes()
    tasks = [
        event["task"] for out in ("out", "second") for event in events(folder, "train_started", out) if event["epoch"] == 0
    ]
    assert len(tasks) == len(set(tasks))


DATASET = """
import torch
from harness import DataError, Dataset, Split, hookimpl


class Shelf(Dataset):
    \"\"\"Noise that needs a file in the data root.\"\"\"

    name, shape, num_classes, train_size, fingerprint = "shelf", (1, 8, 8), 2, 64, "shelf-1"
    normalization = ((0.5,), (0.25,))

    def load(self, root):
        if not (root / "shelf.txt").exists():
            raise DataError(f"data set 'shelf' needs {root / 'shelf.txt'}")
        images = torch.arange(64 * 64, dtype=torch.uint8).view(64, 1, 8, 8)
        return Split(images, torch.arange(64) % 2), Split(images, torch.arange(64) % 2)


@hookimpl
def register_datasets(register):
    register(Shelf)
"""


@pytest.fixture
def one_node(tmp_path: Path) -> Iterator[Callable[..., RayCluster]]:
    """Return a function that starts a cluster with one node, which has some environment variables."""
    started = []

    def start_cluster(**environment: str) -> RayCluster:
        cluster = new_cluster(tmp_path)
        started.append(cluster)
        add_node(cluster, tmp_path, "node", **environment)
        return cluster

    yield start_cluster
    for cluster in started:
        cluster.close()


@pytest.mark.faults
def test_missing_data_set(tmp_path: Path, one_node: Callable[..., RayCluster]) -> None:
    """The data root is that of the node; the line about a missing data set names the node."""
    write_plugin(tmp_path / "plugins", "shelves", DATASET)
    path = python_path(tmp_path / "plugins")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "shelf.txt").write_text("")
    cluster = one_node(PYTHONPATH=path, HARNESS_DATA=str(tmp_path / "nothing"))
    folder = write(tmp_path / "run", {**FILE, "datasets": ["shelf"], "architectures": ["vit"], "methods": ["deep"]})
    words = (*options(cluster, actors=1), "--data", str(tmp_path / "data"))
    done = run_harness("run", "small.yaml", "--out", "out", "--store", "store", *words, cwd=folder, code=1, PYTHONPATH=path)
    problem = rf"data set 'shelf' needs {tmp_path}/nothing/shelf.txt.* \(Ray actor 1 on {socket.gethostname()}, log .*\)"
    assert re.search(problem, done.stderr + done.stdout), done.stderr


@pytest.mark.faults
def test_node_with_other_code(tmp_path: Path, one_node: Callable[..., RayCluster]) -> None:
    """The run ends with a line that names what both have."""
    write_plugin(tmp_path / "plugins", "shelves", DATASET)
    cluster = one_node(PYTHONPATH=python_path(tmp_path / "plugins"))
    folder = write(tmp_path / "run", FILE)
    done = run(folder, *options(cluster, actors=1), code=1)
    problem = r"plugin 'shelves': the worker finds shelves 1.0 from .*, the run does not; .* \(Ray actor 1 on .*, log .*\)"
    assert re.search(problem, done.stderr), done.stderr


@pytest.mark.faults
def test_node_on_which_no_worker_starts(tmp_path: Path, one_node: Callable[..., RayCluster]) -> None:
    """Three workers are tried; the line names the actor, its node and what its log ends with."""
    cluster = one_node(HARNESS_DATA="~nobody-of-this-name")
    folder = write(tmp_path / "run", FILE)
    done = run(folder, *options(cluster, actors=1), code=1)
    problem = r"a worker process did not start: exit code 2 \(Ray actor 3 on .*\); its log .*3.log ends with: .*HARNESS_DATA"
    assert re.search(problem, done.stderr), done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.faults
def test_full_disk_of_a_node(tmp_path: Path, cluster: RayCluster, small_disk: Path) -> None:
    """The run ends with a line that names the node and the folder; with another folder it goes on."""
    folder = write(tmp_path / "run", {**FILE, "methods": ["deep"], "architectures": ["resnet20"]})
    words = options(cluster, "no", actors=1)
    done = run(folder, *words, "--engine-option", f"scratch={small_disk}", code=2)
    problem = rf"store {small_disk}/basin-harness-\d+/\w+: .*no space left on the device.* \(Ray actor 1 on .*, log .*\)"
    assert re.search(problem, done.stderr), done.stderr
    run(folder, *words)
