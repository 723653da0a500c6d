"""The checks of a dry pass, in order.

Errors that would otherwise occur after hours of training occur here. They name the plugin and what is expected of it.
Independent of tasks and store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.api.interfaces import Objective
from harness.errors import PluginFailed
from harness.execution.dry_pass import network_checks, training_checks
from harness.execution.dry_pass.probe import Probe
from harness.execution.environment import TaskEnvironment
from harness.networks.flat_network import FlatNetwork
from harness.training.step import TrainState

IMAGES = 2
"""Number of images in the training step of a dry pass."""


@dataclass(frozen=True)
class DryPass:
    """A dry pass for a setting on its device and an objective.

    `teacher` is a network of the teacher's architecture, if the objective needs a teacher. `objective_label` is the
    objective's name in messages.
    """

    environment: TaskEnvironment
    objective: Objective
    objective_label: str
    teacher: FlatNetwork | None = None
    images: int = IMAGES

    def run(self) -> None:
        """Raise `PluginFailed` for the first check that fails.

        If a plugin's code raises an exception, all checks are tried again with a whole batch, in case it needs one.
        """
        try:
            self._try()
        except PluginFailed as error:
            batch = self.environment.recipe.batch_size
            if error.__cause__ is None or batch <= self.images:
                raise
            replace(self, images=batch)._try()

    def _try(self) -> None:
        environment = self.environment
        probe = Probe(environment, self.images)
        network = probe.fresh_network("one", gradient=True)
        built = probe.fresh_network("one")  # kept unchanged
        other = probe.fresh_network("two")
        network_checks.check_build(probe, network, built)
        network_checks.check_evaluation(probe, network, environment.architecture_label)
        network_checks.check_whole_batch(probe, network)
        if self.teacher is not None:
            network_checks.check_evaluation(probe, self.teacher, f"the teacher's {environment.architecture_label}")
        network_checks.check_state(probe, network, built, other)
        network_checks.check_counters(probe, network)

        objective = training_checks.LabeledObjective(self.objective, self.objective_label, self.teacher is not None)
        state = TrainState(network, environment.augmenter, environment.labels, environment.recipe, self.objective, self.teacher)
        network.module.train()
        training_checks.check_training_logits(probe, state, objective)
        training_checks.check_steps(probe, state, objective)
        network_checks.check_tensors_unchanged(probe, network, built)
        environment.check_stored(network, network.state())
        training_checks.check_backward(probe, network)
