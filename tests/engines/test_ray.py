"""The engine `ray` without a cluster: its options, and what it tells if Ray is missing or its client ends."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.conftest import Driver
from harness import Engine, engines
from harness.cli.engine_options import parse_engine_options
from harness.errors import HarnessError, UserError
from harness.registry.catalogue import Catalogue, Registration
from harness.registry.discovery import Source
from harness.runs.engine import make_engine
from harness.telemetry.events import EngineOpened, WorkerDescribed
from harness_ray.engine import RayEngine
from harness_ray.options import RayOptions
from harness_ray.room import describe_demands, describe_nodes, room_for

CATALOGUE = Catalogue([Registration("engine", "ray", RayEngine, Source("ray", "tests 0"))])
Drive = Callable[[Engine], Driver]

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


def engine_of(*pairs: str) -> Engine:
    """Return the engine with options as on the command line."""
    return make_engine(CATALOGUE, "ray", parse_engine_options(pairs), {})


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("actor=2", "--engine-option ray: unknown key 'actor'; did you mean 'actors'?"),
        ("actors=0", "--engine-option actors: 0 is out of range; an integer of at least 1"),
        ("num_gpus=2", "--engine-option num_gpus: 2 is out of range"),
        ("address=ray://head:10001", "'ray://head:10001' is for Ray Client; start `harness run` on a machine of the cluster"),
        ("address=head", "'head' is no address of a Ray cluster; local, auto, or HOST:PORT"),
        ("place_siblings=near", "--engine-option place_siblings: "),
        ("share_store=maybe", "--engine-option share_store: "),
        ("resources={big: 0}", "resources: big is 0; more than 0"),
        ("resources={GPU: 1}", "resources: GPU is no custom resource; use num_cpus and num_gpus"),
        ("scratch=here", "scratch is 'here'; an absolute path, since nodes have no common working folder"),
    ],
)
def test_mistake_in_an_option(pair: str, message: str) -> None:
    """One line names the option, the value and what is allowed."""
    with pytest.raises(UserError) as error:
        engine_of(pair)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "demands"),
    [
        ({}, {"CPU": 2.0}),
        ({"num_cpus": 0.5, "num_gpus": 0.5}, {"CPU": 0.5, "GPU": 0.5}),
        ({"num_cpus": 0, "resources": {"big": 1}}, {"big": 1.0}),
    ],
)
def test_demands(options: dict[str, Any], demands: dict[str, float]) -> None:
    """An actor reserves as many CPUs as it has threads, unless an option says otherwise."""
    assert RayOptions(**options).demands(threads=2) == demands


@pytest.mark.parametrize(
    ("options", "requested", "device"),
    [({}, "auto", "cpu"), ({"num_gpus": 0.5}, "auto", "cuda"), ({"num_gpus": 1}, "cpu", "cpu"), ({}, "cuda", "cuda")],
)
def test_device_of_the_actors(options: dict[str, Any], requested: str, device: str) -> None:
    """It follows from the options, whatever this machine has."""
    assert RayEngine(RayOptions(**options)).device_for(requested) == device


def test_room() -> None:
    """Actors fit into single nodes that are alive."""
    nodes = [
        {"Alive": True, "Resources": {"CPU": 3.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    assert room_for({"CPU": 2.0}, nodes) == 1
    assert room_for({"CPU": 0.1}, nodes) == 40
    assert room_for({"GPU": 0.5}, nodes) == 2
    assert room_for({}, nodes) == 2
    assert describe_nodes(nodes) == "2 nodes, 4 CPU, 1 GPU"
    assert describe_demands({"CPU": 0.5, "big": 1.0}) == "0.5 CPU, 1 big"
    assert describe_demands({}) == "no demands"


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch, drive: Drive) -> None:
    """The message names the package and the extra."""
    monkeypatch.setitem(sys.modules, "ray", None)
    message = r"^engine 'ray': the package ray is not installed; pip install 'basin-harness\[ray\]'$"
    with pytest.raises(UserError, match=message), drive(engine_of()):
        pass


@needs_ray
@pytest.mark.slow
def test_no_cluster_at_an_address(drive: Drive) -> None:
    """The message names the address, the reason and a command that shows more."""
    message = r"^engine 'ray': no Ray cluster answers at 127.0.0.1:1: Connection refused; `ray status` on its head shows more$"
    with pytest.raises(UserError, match=message), drive(engine_of("address=127.0.0.1:1")):
        pass


@needs_ray
@pytest.mark.slow
@pytest.mark.faults
def test_machine_without_room(drive: Drive) -> None:
    """A cluster on this machine is refused if no actor fits."""
    message = r"this machine has no room for an actor with 1000 CPU, 1 big: it has 1 node, \d+ CPU, \d+ GPU$"
    with pytest.raises(UserError, match=message), drive(engine_of("num_cpus=1000", "resources={big: 1}")):
        pass


@needs_ray
@pytest.mark.slow
@pytest.mark.faults
def test_client_that_is_killed(drive: Drive) -> None:
    """The run ends with one line; the workers save and end."""
    with drive(engine_of("actors=1")) as driver:
        driver.on_event = lambda event: kill_client() if isinstance(event, WorkerDescribed) else None
        message = r"^the connection to a Ray cluster on this machine .* was lost; the same command again goes on .* ends with: "
        with pytest.raises(HarnessError, match=message):
            driver.run([600])
        assert len(driver.messages(EngineOpened)) == 1


def kill_client() -> None:
    """Kill the clients of this process."""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and is_client(process):
            os.kill(int(process.name), signal.SIGKILL)


def is_client(process: Path) -> bool:
    """Return whether a process is a client that this process has started."""
    try:
        command = (process / "cmdline").read_bytes().split(b"\0")
        status = (process / "status").read_text()
    except OSError:
        return False
    return b"harness_ray.client" in command and f"PPid:\t{os.getpid()}\n" in status


def test_last_line_of_a_log(tmp_path: Path) -> None:
    """A message has the last line that is not blank, or says that there is none."""
    log = tmp_path / "1.log"
    assert engines.describe_log(log) == f"its log {log} does not exist"
    log.write_text(" \n")
    assert engines.describe_log(log) == f"its log {log} is empty"
    log.write_text("first\nno module\tnamed cuda \n\n")
    assert engines.describe_log(log) == f"its log {log} ends with: no module named cuda"
