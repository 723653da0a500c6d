"""A network's logits on the test images, computed once for all metrics."""

from __future__ import annotations

import time

from harness.api.task import Task
from harness.errors import attribute_errors
from harness.execution.plugin_calls import check_logits
from harness.execution.tasks.resources import TaskResources
from harness.networks.evaluation import predict as predict_logits


def predict(task: Task, resources: TaskResources) -> None:
    """Store the logits, float32 (examples, classes)."""
    began = time.monotonic()
    environment = resources.environment(task.spec["setting"])
    network = environment.network()
    location = task.spec["location"]
    with resources.watch("store"):
        network.load(resources.store.tensors(location["object"], location["part"]))
    with attribute_errors(environment.who, "forward"):
        logits = predict_logits(network, environment.test_images).cpu()
    check_logits(environment.who, logits, (len(environment.test), environment.num_classes), "on the test images")
    resources.put(task, began, {"logits": {"logits": logits}}, examples=len(logits))
