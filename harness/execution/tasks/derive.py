"""Compute weights from other weights: an alignment, an average. Derivations that train save their states."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from harness import streams
from harness.api.data import Split
from harness.api.derivation import Derivation, DerivationContext, DerivationState
from harness.api.specs import CheckSpec, DeriveSpec, Identity, StreamName
from harness.api.task import Task, canonical_json
from harness.errors import PluginFailed, attribute_errors
from harness.execution.environment import TaskEnvironment
from harness.execution.plugin_calls import plugin_label
from harness.execution.plugin_results import check_states
from harness.execution.tasks.derivation_states import DerivationStates
from harness.execution.tasks.resources import TaskResources
from harness.networks.evaluation import NormalizedImages
from harness.networks.flat_network import StateDict
from harness.networks.recomputation import recomputed
from harness.training.epoch_batches import EpochBatches


def derive(task: Task, spec: DeriveSpec, resources: TaskResources) -> None:
    """Compute all outputs of a derivation and store them, one part each."""
    began = time.monotonic()
    environment = resources.environment(spec.setting)
    derivation: Derivation = resources.catalogue.from_identity("derivation", spec.derivation)
    label = plugin_label(resources.catalogue, "derivation", derivation)
    parents = [resources.tensors(location) for location in spec.parent_locations]
    before = _data_versions(environment)
    saved = DerivationStates(task, resources, label)
    context = _context(environment, spec.stream, spec.sources, saved)
    with attribute_errors(label, "derive"):
        states, facts = derivation.derive(parents, context)
        states = [dict(state) for state in states]
        facts = dict(facts)
        canonical_json(facts)  # raises an exception if they are not serializable as JSON
    _require_unchanged_data(before, resources, environment, f"{label}: derive")
    check_states(f"{label}: derive gave", states, derivation.outputs, parents[0])
    parts: dict[str, StateDict] = {}
    for output, state in enumerate(states):
        parts[f"weights-{output}"] = state
    resources.put(task, began, parts, {"facts": facts})
    saved.drop()


def check_derivation(spec: CheckSpec, identity: Identity, resources: TaskResources) -> None:
    """Raise the error that would fail every derivation with an identity in a setting, if there is one."""
    environment = resources.environment(spec.setting)
    derivation: Derivation = resources.catalogue.from_identity("derivation", identity)
    label = plugin_label(resources.catalogue, "derivation", derivation)
    before = _data_versions(environment)
    with attribute_errors(label, "check"):
        derivation.check(_context(environment, ("check",), spec.sources, _NothingSaved()))
    _require_unchanged_data(before, resources, environment, f"{label}: check")


def _context(
    environment: TaskEnvironment, name: StreamName, sources: Sequence[str], saved: DerivationStates | _NothingSaved
) -> DerivationContext:
    stream = streams.key(*name)
    images, labels, augmenter = environment.train_images, environment.labels, environment.augmenter
    return DerivationContext(
        network=environment.module,
        train=environment.train,
        test=environment.test,
        normalize=_normalizer(environment),
        device=environment.device,
        stream=stream,
        split=lambda name: environment.split(name)[0],
        sources=tuple(Path(path) for path in sources),
        recompute_statistics=lambda state: recomputed(environment.network(), state, environment.train_images),
        batches=EpochBatches(images, labels, augmenter, stream, saved.require_no_stop),
        resume=saved.resume,
        save=saved.save,
    )


class _NothingSaved:
    """The states of a check: there are none, and what is saved is forgotten."""

    def require_no_stop(self) -> None:
        """Do not stop between batches."""

    def resume(self) -> DerivationState | None:
        """Return None."""
        return None

    def save(self, state: DerivationState) -> None:
        """Forget a state."""


def _normalizer(environment: TaskEnvironment) -> Callable[[Tensor], Tensor]:
    """Return the function that turns uint8 images (batch, …) into normalized float32 images on the device."""

    def normalize(images: Tensor) -> Tensor:
        split = Split(images, torch.zeros(len(images)))
        return torch.cat(list(NormalizedImages(split, environment.normalization, environment.device).batches()))

    return normalize


def _require_unchanged_data(before: list[int], resources: TaskResources, environment: TaskEnvironment, what: str) -> None:
    """Raise `PluginFailed` if the data set's tensors were changed since `before`. The next task loads them again."""
    if _data_versions(environment) != before:
        resources.forget_environment()
        raise PluginFailed(f"{what} changes the data set's images or labels in place; work on a copy")


def _data_versions(environment: TaskEnvironment) -> list[int]:
    """Return torch's counters of in-place changes of the data set's tensors."""
    train, test = environment.train, environment.test
    return [tensor._version for tensor in (train.images, train.labels, test.images, test.labels)]
