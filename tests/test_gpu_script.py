"""`benchmarks/gpu.py`, rehearsed on the CPU: killed and continued, with a part that fails, on stand-ins for CIFAR-10."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_parts import PARTS, PERF, ROOT, Call
from json_lines import read_lines

from harness.benchmark import load_benchmark
from harness.registry.catalogue import load_catalogue

IMAGES = 8
PLUGIN = """
from harness import hookimpl
from harness_vision.cifar import Cifar10

class SmallCifar10(Cifar10):
    name = "small_cifar10"
    train_files = {train_files}
    test_files = {test_files}
    train_size = 5 * {images}

@hookimpl
def register_datasets(register):
    register(SmallCifar10)
"""


def write_batches(folder: Path) -> dict[str, str]:
    """Write images in CIFAR-10's published format; return the md5 of each file by its name."""
    folder.mkdir(parents=True)
    md5_by_name = {}
    for seed, name in enumerate(["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (IMAGES, 3072), dtype=np.uint8)
        content = pickle.dumps({"data": pixels, "labels": rng.integers(0, 10, IMAGES).tolist()}, protocol=2)
        (folder / name).write_bytes(content)
        md5_by_name[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return md5_by_name


class Rehearsal:
    """The script with a folder for results, and a plugin whose data set stands in for CIFAR-10."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[subprocess.Popen[str]] = []
        self.out = folder / "out"
        self.data = folder / "data"
        md5_by_name = write_batches(self.data / "cifar-10-batches-py")
        test_files = {"test_batch": md5_by_name.pop("test_batch")}
        plugin = PLUGIN.format(train_files=md5_by_name, test_files=test_files, images=IMAGES)
        metadata = folder / "plugin" / "small_cifar10-1.dist-info"
        metadata.mkdir(parents=True)
        (folder / "plugin" / "small_cifar10.py").write_text(plugin)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: small-cifar10\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text("[harness]\nsmall_cifar10 = small_cifar10\n")

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start a call in a process group of its own."""
        paths = [str(self.folder / "plugin"), str(ROOT), str(ROOT / "plugins")]
        words = [str(ROOT / "benchmarks" / "gpu.py"), str(self.out), "--scratch", str(self.folder / "scratch"), "--tiny"]
        words += ["--limit", "20m", "--data", str(self.data), "--dataset", "small_cifar10", "--images", str(5 * IMAGES)]
        process = subprocess.Popen(
            [sys.executable, *words, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self.calls.append(process)
        return process

    def close(self) -> None:
        """Kill the calls that have not ended."""
        for process in self.calls:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def call(self, *options: str) -> str:
        """Make a call that must succeed; return its output."""
        process = self.start(*options)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        return output

    def statuses(self, part: str) -> list[str]:
        """Return the statuses of a part's lines, in order."""
        return [line["status"] for line in read_lines(self.out / "gpu.jsonl") if line["part"] == part]

    def measured(self) -> list[str]:
        """Return the names of the rungs that were measured, in order."""
        return [line["rung"] for line in read_lines(self.out / "ladder.jsonl") if line["status"] == "measured"]

    def line(self, part: str) -> dict[str, Any]:
        """Return the last line of a part."""
        return [line for line in read_lines(self.out / "gpu.jsonl") if line["part"] == part][-1]


def processes_of(folder: Path) -> list[int]:
    """Return the processes whose command line has a folder's path."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in text:
            found.append(int(path.parent.name))
    return found


@pytest.fixture
def rehearsal(tmp_path: Path) -> Iterator[Rehearsal]:
    """A rehearsal in a new folder."""
    rehearsal = Rehearsal(tmp_path)
    yield rehearsal
    rehearsal.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whole_flow(rehearsal: Rehearsal) -> None:
    """A killed call loses nothing, done parts are skipped, a part that fails is tried twice and then left out."""
    parts = ["--only", "replays", "ladder-evaluation", "run"]
    process = rehearsal.start(*parts)
    while not rehearsal.measured():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 60
    while processes_of(rehearsal.folder):
        assert time.monotonic() < deadline, "a part has outlived the call"
        time.sleep(0.1)
    assert rehearsal.statuses("replays") == ["began", "done"]
    assert rehearsal.statuses("ladder-evaluation") == ["began"]

    batch = rehearsal.data / "cifar-10-batches-py" / "test_batch"
    content = batch.read_bytes()
    batch.write_bytes(content[:-1])
    output = rehearsal.call(*parts)
    assert "replays: done before" in output
    assert rehearsal.statuses("ladder-evaluation") == ["began", "began", "done"]
    assert len(rehearsal.measured()) == len(set(rehearsal.measured())) == 4
    assert rehearsal.statuses("run") == ["began", "failed"]
    rehearsal.call(*parts)
    assert "left out failed 2 times: exit code" in rehearsal.call(*parts)
    assert "run: left out" in rehearsal.call(*parts)
    assert rehearsal.statuses("run") == ["began", "failed", "began", "failed", "left out"]
    assert "damaged or not the published file" in (rehearsal.out / "output.txt").read_text()

    batch.write_bytes(content)
    rehearsal.call(*parts, "--again", "run")
    assert rehearsal.statuses("run")[-3:] == ["again", "began", "done"]
    assert all(rate > 0 for rate in rehearsal.line("run")["images_per_second"].values())
    with tarfile.open(rehearsal.out / "run.tar.gz") as archive:
        assert {"run/results.csv", "run/events.jsonl", "run/profile.json", "run/run.json"} <= set(archive.getnames())
    files = [path for path in rehearsal.out.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"gpu.jsonl", "ladder.jsonl", "output.txt", "run.tar.gz"}
    assert all(path.stat().st_size <= 16 * 2**20 for path in files)
    assert "replays: passed" in (rehearsal.out / "output.txt").read_text()


@pytest.mark.slow
def test_checks_on_the_cpu() -> None:
    """The smoke test with its profile runs with tiny networks."""
    command = [sys.executable, str(PERF / "gpu_checks.py"), "smoke", "--tiny"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "Self CPU" in done.stdout
    assert "2 siblings, eager" in done.stdout
    assert "smoke: passed" in done.stdout


def test_part_without_data(rehearsal: Rehearsal, tmp_path: Path) -> None:
    """It is skipped with a line that says what to set."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "run: skipped there is no data: set HARNESS_DATA or --data" in rehearsal.call("--only", "run", "--data", str(empty))
    assert rehearsal.statuses("run") == ["skipped"]


def test_no_time_left(rehearsal: Rehearsal) -> None:
    """No part is begun, and the summary says so."""
    output = rehearsal.call("--only", "doctor", "--limit", "1s")
    assert "doctor: not begun 0 s left of the call; needs 15 s" in output
    assert rehearsal.statuses("doctor") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "smok"], "unknown part 'smok'; known: doctor, smoke, "),
        (["--again", "smok"], "unknown part 'smok'; known: doctor, smoke, "),
        (["--limit", "soon"], "'soon' is no duration; write 540, 90s, 9m or 2h"),
    ],
)
def test_mistakes(rehearsal: Rehearsal, options: list[str], message: str) -> None:
    """They end the call with one line, before anything runs."""
    process = rehearsal.start(*options)
    output, _ = process.communicate()
    assert process.returncode == 2
    assert message in output


@pytest.mark.parametrize(("tiny", "expected"), [(False, {"run": 3, "paper": 7}), (True, {"run": 3, "paper": 2})])
def test_commands_of_all_parts(tmp_path: Path, tiny: bool, expected: dict[str, int]) -> None:
    """Their scripts exist, and their overrides fit benchmarks/paper.yaml: so many cells have the short run and the paper's."""
    call = Call(tmp_path, tmp_path / "scratch", tmp_path, tiny, dataset="cifar10", images=1)
    cells = {}
    for part in PARTS:
        command = part.command(call, 100.0)
        for word in command:
            assert not word.startswith(str(ROOT)) or Path(word).exists(), word
        overrides = [command[index + 1] for index, word in enumerate(command) if word == "--set"]
        if overrides:
            benchmark = load_benchmark(ROOT / "benchmarks" / "paper.yaml", load_catalogue(), overrides)
            cells[part.name] = len(list(benchmark.cells()))
    assert cells == expected
    assert len({part.name for part in PARTS}) == len(PARTS)
