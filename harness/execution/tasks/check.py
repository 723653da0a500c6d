"""Try everything that a training does once, on two images, and what its networks are evaluated on. Stores nothing."""

from __future__ import annotations

from harness.api.specs import CheckSpec
from harness.execution.dry_pass import DryPass
from harness.execution.plugin_calls import make_objective
from harness.execution.tasks.resources import TaskResources
from harness.execution.tasks.train import teacher_network


def check(spec: CheckSpec, resources: TaskResources) -> None:
    """Raise the error that would fail every training of a setting and an objective, if there is one."""
    environment = resources.environment(spec.setting)
    for evaluation in spec.evaluation_splits:
        environment.evaluation_split(evaluation)
    objective, label = make_objective(resources.catalogue, spec.objective)
    teacher = None
    if spec.teacher is not None:
        teacher = teacher_network(resources.catalogue, spec.teacher, environment, resources.context.data)
    DryPass(environment, objective, label, teacher).run()
