"""A Ray cluster of several nodes on this machine, in a process of its own: Ray may end the process that it lives in.

Run as a script, it obeys lines of JSON on standard input and answers each with a line. `RayCluster` is the tests' side.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest


class RayCluster:
    """A cluster whose head has no CPUs, so that all actors run on the nodes that are added."""

    def __init__(self, log: Path) -> None:
        if importlib.util.find_spec("ray") is None:
            pytest.skip("ray is not installed: pip install 'basin-harness[ray]'")
        pipe = subprocess.PIPE
        with log.open("wb") as errors:
            self._process = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, stderr=errors, text=True)
        self._log = log
        self.address = str(self._ask("start", ""))

    def add(self, name: str, **environment: str) -> None:
        """Add a node with one CPU."""
        self._ask("add", name, environment)

    def remove(self, name: str) -> None:
        """Kill a node: its processes end at once."""
        self._ask("remove", name)

    def kill_head(self) -> None:
        """Kill the head: no node can be asked about or added any more."""
        self._ask("kill_head", "")

    def close(self) -> None:
        """End all nodes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def _ask(self, action: str, name: str, environment: dict[str, str] | None = None) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"action": action, "name": name, "environment": environment or {}}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self._log.read_text()
        return json.loads(answer)


def serve(lines: IO[str], out: IO[str]) -> None:
    """Obey until the input ends."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    address = cluster.address
    nodes = {}
    for line in lines:
        request = json.loads(line)
        name = request["name"]
        if request["action"] == "add":
            nodes[name] = cluster.add_node(num_cpus=1, env_vars=request["environment"])
        elif request["action"] == "remove":
            cluster.remove_node(nodes.pop(name), allow_graceful=False)
        elif request["action"] == "kill_head":
            cluster.head_node.kill_gcs_server(check_alive=False)
        out.write(json.dumps(address) + "\n")
        out.flush()
    for node in [*nodes.values(), cluster.head_node]:
        node.kill_all_processes(check_alive=False, allow_graceful=False)


if __name__ == "__main__":
    answers = sys.stdout
    sys.stdout = sys.stderr
    serve(sys.stdin, answers)
