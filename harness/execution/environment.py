"""A setting made real on a device: data, augmentation, networks. Knows no task and no store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import streams
from harness.api.interfaces import Dataset
from harness.api.normalization import normalization_of
from harness.api.options import options_from_json
from harness.api.recipe import Recipe
from harness.errors import PluginFailed, UserError, attribute_errors
from harness.execution.data_root import explained
from harness.execution.plugin_calls import architecture_for, build_module, check_split, plugin_label
from harness.networks.differences import differing_attributes, differing_constants, differing_tensors
from harness.networks.evaluation import NormalizedImages, differ, predict_batch
from harness.networks.flat_network import FlatNetwork, StateDict
from harness.registry.catalogue import Catalogue
from harness.training.augmentation import Augmenter

PROBE_IMAGES = 16
"""Training images on which a stored network is compared with the trained one."""

_TOLERANCE = 1e-3  # of the largest logit; what rounding changes is a thousand times smaller


class TaskEnvironment:
    """A data set, an architecture and a recipe on a device. Kept by the worker from task to task."""

    def __init__(self, catalogue: Catalogue, spec: dict[str, Any], data: Path, device: torch.device) -> None:
        self.device = device
        self.recipe: Recipe = options_from_json(Recipe, spec["recipe"])
        identity = {k: v for k, v in spec["dataset"].items() if k != "fingerprint"}
        named: Dataset = catalogue.from_identity("dataset", identity)
        who = plugin_label(catalogue, "dataset", named)
        with attribute_errors(who, "located"):
            self.dataset = named.located(data)
        if self.dataset.fingerprint != spec["dataset"]["fingerprint"]:
            raise UserError(
                f"data set '{self.dataset.full_name}' is not the one the task was made for: its fingerprint differs"
            )
        self.architecture = architecture_for(catalogue, spec["architecture"], data)
        with explained(self.dataset.full_name, data), attribute_errors(who, "load"):
            splits = self.dataset.load(data)
        if not isinstance(splits, tuple | list) or len(splits) != 2:
            raise PluginFailed(f"{who}: load gave a {type(splits).__name__}; a training and a test split are expected")
        self.train, self.test = splits
        for name, split in (("training", self.train), ("test", self.test)):
            check_split(f"{who}: load gave a {name} split", split, self.dataset)
        if len(self.train) != self.dataset.train_size:
            raise PluginFailed(f"{who}: load gave {len(self.train)} training images; train_size is {self.dataset.train_size}")
        self.who = plugin_label(catalogue, "architecture", self.architecture)
        self.labels = self.train.labels.to(device)
        self.normalization = normalization_of(self.recipe, self.dataset)
        mean, std = self.normalization
        self.augmenter = Augmenter(self.train.images, self.recipe.augmentation, mean, std, device)
        self.train_images = NormalizedImages(self.train, self.normalization, device)
        self.test_images = NormalizedImages(self.test, self.normalization, device)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.dataset.num_classes

    def module(self, stream: int = 0) -> torch.nn.Module:
        """Return a freshly initialized network."""
        return build_module(self.architecture, self.who, self.dataset, stream)

    def network(self, stream: int = 0, *, gradient: bool = False) -> FlatNetwork:
        """Return a freshly initialized network on the device, in one vector."""
        return FlatNetwork(self.module(stream), self.device, gradient=gradient)

    @cached_property
    def probe(self) -> FlatNetwork:
        """A network of its own initialization, into which states are loaded to see what they compute."""
        return self.network(streams.key("probe"))

    @cached_property
    def probe_images(self) -> Tensor:
        """Some training images, normalized, float32 (batch, channels, height, width)."""
        return self.train_images.take(torch.arange(min(PROBE_IMAGES, len(self.train))))

    def check_stored(self, trained: FlatNetwork, state: StateDict) -> None:
        """Refuse a state from which a fresh network does not compute what the trained one does; name what the state lacks."""
        with attribute_errors(self.who, "loading its own state"):
            self.probe.load(state)
        with attribute_errors(self.who, "forward"):
            expected = predict_batch(trained, self.probe_images)
            found = predict_batch(self.probe, self.probe_images)
        if bool(expected.isfinite().all()) and differ(expected, found, _TOLERANCE):
            raise PluginFailed(
                f"{self.who}: a fresh network with the stored weights gives other logits than the trained one: "
                f"{missing_from_state(trained.module, self.probe.module)}"
            )


def missing_from_state(one: torch.nn.Module, other: torch.nn.Module) -> str:
    """Say what two networks differ in after one got the other's state dict, and what to do about it."""
    names = [*differing_constants(one, other), *differing_attributes(one, other)]
    if not names:
        tensors = differing_tensors(one, other)
        if tensors:
            return f"its state dict cannot be loaded: {listed(tensors)} comes back as another tensor; change tensors in place"
    return (
        f"it depends on {listed(names) or 'something'}, which the state dict does not hold; "
        "keep that in a parameter or a persistent buffer, or make it the same in every build"
    )


def listed(names: Sequence[str]) -> str:
    """Return names for a message, five at most."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"'{name}'" for name in names[:5]) + more
