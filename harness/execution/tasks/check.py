"""Before training: try everything that a training does once, on two images. Stores nothing."""

from __future__ import annotations

from harness.api.task import Task
from harness.execution.dry_pass import DryPass
from harness.execution.tasks.resources import TaskResources
from harness.execution.train_run import make_objective, teacher_network


def check(task: Task, resources: TaskResources) -> None:
    """Raise what would fail every training of the task's setting and objective, before hours are spent."""
    environment = resources.environment(task.spec["setting"])
    objective, label = make_objective(resources.catalogue, task.spec["objective"])
    setting = task.spec["teacher"]
    teacher = None
    if setting is not None:
        teacher = teacher_network(resources.catalogue, setting, environment, resources.context.data)
    DryPass(environment, objective, label, teacher).run()
