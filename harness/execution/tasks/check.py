"""Try everything that a training does once, on two images, and what its networks are evaluated on. Stores nothing.

A check of a derivation asks it whether it is possible for networks of the setting.
"""

from __future__ import annotations

from harness.api.specs import CheckSpec, Identity
from harness.execution.dry_pass import DryPass
from harness.execution.plugin_calls import make_objective
from harness.execution.tasks.derive import check_derivation
from harness.execution.tasks.resources import TaskResources
from harness.execution.tasks.train import teacher_network


def check(spec: CheckSpec, resources: TaskResources) -> None:
    """Raise the error that would fail every training of a setting and an objective, or every derivation, if there is one."""
    if spec.derivation is not None:
        check_derivation(spec, spec.derivation, resources)
    elif spec.objective is not None:
        _check_training(spec, spec.objective, resources)


def _check_training(spec: CheckSpec, identity: Identity, resources: TaskResources) -> None:
    environment = resources.environment(spec.setting)
    for evaluation in spec.evaluation_splits:
        environment.evaluation_split(evaluation)
    objective, label = make_objective(resources.catalogue, identity)
    teacher = None
    if spec.teacher is not None:
        teacher = teacher_network(resources.catalogue, spec.teacher, environment, resources.context.data)
    DryPass(environment, objective, label, teacher).run()
