"""Weights computed from other weights: an alignment, an average."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness import streams
from harness.api.interfaces import Derivation, DerivationContext, Split
from harness.api.task import Task, canonical_json
from harness.errors import PluginFailed, attribute_errors
from harness.execution.plugin_calls import check_states, plugin_label
from harness.execution.tasks.resources import TaskResources
from harness.networks.evaluation import NormalizedImages


def derive(task: Task, resources: TaskResources) -> None:
    """Compute all outputs of a derivation and store them, one part each."""
    began = time.monotonic()
    environment = resources.environment(task.spec["setting"])
    derivation: Derivation = resources.catalogue.from_identity("derivation", task.spec["derivation"])
    parents = [resources.store.tensors(where["object"], where["part"]) for where in task.spec["parent_locations"]]
    context = DerivationContext(
        environment.module,
        environment.train,
        environment.test,
        partial(_normalize, normalization=environment.normalization, device=resources.device),
        resources.device,
        streams.key(*task.spec["stream"]),
    )
    who = plugin_label(resources.catalogue, "derivation", derivation)
    shared = [split_tensor for split in (environment.train, environment.test) for split_tensor in (split.images, split.labels)]
    versions = [tensor._version for tensor in shared]
    with attribute_errors(who, "derive"):
        given, facts = derivation.derive(parents, context)
        states, facts = [dict(state) for state in given], dict(facts)
        canonical_json(facts)
    if versions != [tensor._version for tensor in shared]:
        resources.forget_environment()
        raise PluginFailed(f"{who}: derive changes the data set's images or labels in place; work on a copy")
    check_states(f"{who}: derive gave", states, derivation.outputs, parents[0])
    resources.put(task, began, {f"weights-{i}": state for i, state in enumerate(states)}, facts=facts)


def _normalize(images: Tensor, *, normalization: Any, device: torch.device) -> Tensor:
    split = Split(images, torch.zeros(len(images)))
    return torch.cat(list(NormalizedImages(split, normalization, device).batches()))
