"""Printed lines about failed trainings: each training, and each reason once."""

from __future__ import annotations

from pathlib import Path

from harness.api.plugin import full_name
from harness.benchmark import load_benchmark
from harness.execution.annotator import describe
from harness.execution.plugin_calls import plugin_label
from harness.execution.run_plan import RunPlan
from harness.plan.planner import plan
from harness.registry.catalogue import load_catalogue
from harness.runs.progress_lines import Lines
from harness.telemetry.events import RunEnded, TaskEnded

TWO_OF_TIMM = """
seeds: [0]
members: 1
datasets: [digits]
architectures: [timm/resnet18, timm/convnext_atto]
methods: [deep]
recipe: {epochs: 1}
"""


def test_two_networks_with_the_same_failure(tmp_path: Path) -> None:
    """Each line has the network's full name; a reason that both share is printed once, and counted at the end."""
    (tmp_path / "b.yaml").write_text(TWO_OF_TIMM)
    graph = plan(load_benchmark(tmp_path / "b.yaml", load_catalogue()))
    printed: list[str] = []
    lines = Lines(RunPlan(graph), printed.append)
    trainings = [key for key, task in graph.tasks.items() if task.kind == "train"]
    for key, message in zip([*trainings, trainings[0]], ["no data", "no data", "no memory"], strict=True):
        named = describe(graph.tasks[key])
        lines.show(TaskEnded(task=key, kind="train", description=named, status="failed", message=message))
    lines.show(RunEnded(status="failed"))
    words = "on digits, seed 0 member 0, cross-entropy"
    assert printed == [
        f"failed: timm/resnet18 {words}: no data",
        f"failed: timm/resnet18 {words}: no memory",
        "failed 1 more time for the same reason: no data",
    ]


def test_full_name_of_a_family_member() -> None:
    """A plugin and its identity have the same full name: the member's name, or else the registered name."""
    catalogue = load_catalogue()
    member = catalogue.create("architecture", "timm/resnet18")
    assert member.full_name == full_name(member.identity) == "timm/resnet18"
    assert plugin_label(catalogue, "architecture", member).startswith("architecture 'timm/resnet18' of ")
    plain = catalogue.create("architecture", "resnet20")
    assert plain.full_name == full_name(plain.identity) == "resnet20"
