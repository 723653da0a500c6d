"""Compute a network's logits on the images of a split, once for all metrics."""

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
    """Compute and store the logits, float32 (examples, classes); for a split of an evaluation set, the labels, too."""
    began = time.monotonic()
    environment = resources.environment(spec.setting)
    images, where = environment.test_images, "on the test images"
    stored = {}
    if spec.evaluation is not None:
        with resources.watch("data"):
            split, images = environment.evaluation_split(spec.evaluation)
        where = f"on split '{spec.evaluation.split}' of evaluation set '{spec.evaluation.evaluation_set['name']}'"
        stored["labels"] = split.labels
    network = environment.network()
    with resources.watch("store"):
        network.load(resources.tensors(spec.location))
    with attribute_errors(environment.architecture_label, "forward"):
        logits = to_host(predict_logits(network, images))
    check_logits(environment.architecture_label, logits, (len(images), environment.num_classes), where)
    resources.put(task, began, {"logits": {"logits": logits, **stored}}, {"examples": len(logits)})
