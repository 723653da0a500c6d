"""All tasks of a benchmark on a device that refuses what a GPU would, against the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from execution.tasks_on_devices import do_tasks, stored_tensors, stored_values, toy_graph
from fake_device import FakeDevice
from harness.plan.graph import Graph
from siblings import equal

READS = {
    "trainer.Trainer._read_sums",
    "trainer.Trainer._weights_are_finite",
    "evaluation.differ",
    "environment.TaskEnvironment.check_stored",
    "interpolation.InterpolatedNetwork.__init__",
    "running_statistics.RunningStatistics._changed_by",
    "running_statistics.RunningStatistics._averages_among",
    "running_statistics._weight",
}
"""The functions that read values of the device between steps and passes, never within one."""

READS_OF_CHECKS = {
    "plugin_results.check_logits",
    "training_checks._check_loss",
    "training_checks.check_steps",
    "training_checks.check_backward",
}
"""Those that do so before a training, in its dry pass."""

COPIES_TO_HOST = {
    *("host_copy.to_host", "checking.permutation_symmetry", "checking.function_difference"),
    *("tracing.record_run", "activations._read", "activations._Moments.finish"),
}
"""The functions that copy tensors to the host. Plugins do not see the first one."""


PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"


def test_documented() -> None:
    """The page on the architecture names every function that waits for the device during a run."""
    text = PAGE.read_text()
    for function in READS | COPIES_TO_HOST:
        assert f"`{function.rpartition('.')[2]}`" in text, function


def test_tasks(graph_of: Callable[..., Graph], tmp_path: Path) -> None:
    """Trainings, alignments, predictions and metrics are equal to the bit; the functions that wait are known."""
    tasks = list(toy_graph(graph_of).tasks.values())
    assert {task.kind for task in tasks} == {"train", "derive", "predict", "measure"}
    found, expected = tmp_path / "found", tmp_path / "expected"
    with FakeDevice() as device:
        do_tasks(tasks, found, "ipu")
    do_tasks(tasks, expected, "cpu")
    assert device.reads == READS | READS_OF_CHECKS
    assert device.to_host == COPIES_TO_HOST
    for task in tasks:
        assert stored_values(task, found) == stored_values(task, expected)
        assert equal(stored_tensors(task, found), stored_tensors(task, expected))
