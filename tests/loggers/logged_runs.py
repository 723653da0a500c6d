"""Runs that are logged: a benchmark of toys, in this process or in one of its own, whose connections are noted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import harness
import toys

CATALOGUE = toys.catalogue()
BENCHMARK: dict[str, Any] = {
    "name": "toys",
    "seeds": [0, 1],
    "members": 2,
    "datasets": ["blobs"],
    "architectures": ["perceptron"],
    "methods": ["deep", {"distilled_deep": {"beta": 0.5}}],
    "metrics": ["ensemble_accuracy", "disagreement"],
    "recipe": {"epochs": 3, "batch_size": 32, "precision": "fp32", "augmentation": {"crop_padding": 0}},
}
PLAIN = [f"blobs/perceptron/deep/seed {seed}/member {member}" for seed in (0, 1) for member in (0, 1)]
DISTILLED = [
    f"blobs/perceptron/distilled_deep/seed {seed}/member {member}/distillation" for seed in (0, 1) for member in (2, 3)
]


def run(folder: Path, observe: list[Any], changes: Mapping[str, Any] | None = None, workers: int = 1) -> harness.Run:
    """Run the benchmark, with changes, in this process."""
    return harness.run(
        {**BENCHMARK, **(changes or {})},
        out=folder / "run",
        store=folder / "store",
        data=folder,
        workers=workers,
        device="cpu",
        progress=False,
        observe=observe,
        catalogue=CATALOGUE,
    )


def run_apart(folder: Path, logger: str, environment: Mapping[str, str], what: str = "run") -> list[str]:
    """Run the benchmark, or check the contract, in a process of its own. Return where it tried to connect to.

    The libraries of the loggers keep settings and threads until their process ends.
    """
    source = Path(__file__).resolve().parents[2]
    paths = [str(path) for path in (source, source / "plugins", source / "tests")]
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", __file__, what, logger, str(folder)]
    variables = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    connections: list[str] = json.loads(done.stdout)
    return connections


def expected_curves(finished: harness.Run) -> dict[str, list[dict[str, Any]]]:
    """Return the epochs of each training, by its trajectory, as `events.jsonl` has them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in (finished.folder / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "epoch":
            found.setdefault(event["trajectory"], []).append(event)
    return found


def _main(what: str, logger: str, folder: Path) -> None:
    connections: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.getaddrinfo"):
            target = str(arguments[1] if event == "socket.connect" else arguments[0])
            if not target.startswith(("/", "b'/", "b'\\x00", "\0", "('127.0.0.1'", "127.0.0.1", "localhost")):
                connections.append(target)

    sys.addaudithook(note)
    if what == "contract":
        from harness.testing import check_observer

        check_observer(CATALOGUE.create("observer", logger), folder)
    else:
        run(folder, [logger])
    print(json.dumps(connections))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
