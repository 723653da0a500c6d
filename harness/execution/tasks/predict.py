"""Compute a network's logits on the test images, once for all metrics."""

from __future__ import annotations

import time

from harness.api.specs import PredictSpec
from harness.api.task import Task
from harness.errors import attribute_errors
from harness.execution.plugin_results import check_logits
from harness.execution.tasks.resources import TaskResources
from harness.networks.evaluation import predict as predict_logits
from harness.networks.host_copy import to_host


def predict(task: Task, spec: PredictSpec, resources: TaskResources) -> None:
    """Compute and store the logits, float32 (examples, classes)."""
    began = time.monotonic()
    environment = resources.environment(spec.setting)
    network = environment.network()
    with resources.watch("store"):
        network.load(resources.tensors(spec.location))
    with attribute_errors(environment.architecture_label, "forward"):
        logits = to_host(predict_logits(network, environment.test_images))
    shape = (len(environment.test), environment.num_classes)
    check_logits(environment.architecture_label, logits, shape, "on the test images")
    resources.put(task, began, {"logits": {"logits": logits}}, {"examples": len(logits)})
