"""The data, the augmentation and the networks of a setting, on a device. Independent of tasks and store."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from harness import streams
from harness.api.data import Split
from harness.api.interfaces import Dataset
from harness.api.normalization import normalization_of
from harness.api.options import options_from_json
from harness.api.recipe import Recipe
from harness.api.specs import EvaluationSpec, Identity, SettingSpec
from harness.errors import PluginFailed, UserError, attribute_errors, did_you_mean
from harness.execution.data_root import explained
from harness.execution.evaluation_splits import EvaluationSplits
from harness.execution.plugin_calls import build_module, make_architecture, plugin_label
from harness.execution.plugin_results import check_split
from harness.execution.state_differences import missing_from_state
from harness.networks.evaluation import DEFAULT_EVALUATION, NormalizedImages, differ, predict_batch
from harness.networks.flat_network import FlatNetwork, Layout, StateDict
from harness.registry.catalogue import Catalogue
from harness.training.augmentation import Augmenter

PROBE_IMAGES = 16
"""Number of training images on which a network with stored weights is compared with the trained network."""

_TOLERANCE = 1e-3  # relative to the largest logit; rounding errors are a thousand times smaller


class TaskEnvironment:
    """A data set, an architecture and a recipe on a device. A worker uses one for all consecutive tasks of a setting.

    `data` is the data root. `architecture_label` is the architecture's name in messages.
    """

    def __init__(self, catalogue: Catalogue, spec: SettingSpec, data: Path, device: torch.device) -> None:
        self.device = device
        self.recipe: Recipe = options_from_json(Recipe, spec.recipe)
        self.dataset = _located_dataset(catalogue, spec.dataset, data)
        self.architecture = make_architecture(catalogue, spec.architecture, data)
        self.architecture_label = plugin_label(catalogue, "architecture", self.architecture)
        self.train, self.test = _load(self.dataset, plugin_label(catalogue, "dataset", self.dataset), data)
        self.labels = self.train.labels.to(device)
        self.normalization = normalization_of(self.recipe, self.dataset)
        mean, std = self.normalization
        self.augmenter = Augmenter(self.train.images, self.recipe.augmentation, mean, std, device)
        self.train_images = NormalizedImages(self.train, self.normalization, device)
        self.test_images = NormalizedImages(self.test, self.normalization, device)
        self._data = data
        self._evaluation_splits = EvaluationSplits(catalogue, self.dataset, self.normalization, data, device)
        self._splits = {"train": (self.train, self.train_images), "test": (self.test, self.test_images)}

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.dataset.num_classes

    def module(self, stream: int = 0) -> torch.nn.Module:
        """Return a newly initialized network on the CPU, in training mode. `stream` is the key of its init stream."""
        return build_module(self.architecture, self.architecture_label, self.dataset, stream)

    def network(self, stream: int = 0, *, gradient: bool = False) -> FlatNetwork:
        """Return a newly initialized network on the device, with its weights in one vector."""
        layout: Layout = "channels_last" if gradient else DEFAULT_EVALUATION.layout
        return FlatNetwork(self.module(stream), self.device, gradient=gradient, layout=layout)

    def split(self, name: str) -> tuple[Split, NormalizedImages]:
        """Return a split by its name, and its images on the device: test, train, or another one of the data set's.

        Raise `ValueError` for an unknown name, with the known ones.
        """
        if name not in self._splits:
            known = ("test", "train", *self.dataset.evaluation_splits)
            if name not in known:
                raise ValueError(f"unknown split '{name}'{did_you_mean(name, known)}")
            self._splits[name] = self._load_split(name)
        return self._splits[name]

    def _load_split(self, name: str) -> tuple[Split, NormalizedImages]:
        label = f"dataset '{self.dataset.full_name}'"
        with explained(self.dataset.full_name, self._data), attribute_errors(label, "load_split"):
            split = self.dataset.load_split(name, self._data)
        check_split(f"{label}: load_split gave a split '{name}'", split, self.dataset)
        return split, NormalizedImages(split, self.normalization, self.device)

    def evaluation_split(self, spec: EvaluationSpec) -> tuple[Split, NormalizedImages]:
        """Return a split of an evaluation set, and its images on the device. Raise `UserError` if they are not there."""
        return self._evaluation_splits.get(spec)

    @cached_property
    def probe(self) -> FlatNetwork:
        """A network for `check_stored`. Its initialization differs from that of any trained network."""
        return self.network(streams.key("probe"))

    @cached_property
    def probe_images(self) -> Tensor:
        """The first training images, at most 16, normalized: float32 (batch, channels, height, width)."""
        return self.train_images.take(torch.arange(min(PROBE_IMAGES, len(self.train))))

    def check_stored(self, trained: FlatNetwork, state: StateDict) -> None:
        """Raise `PluginFailed` if a new network with the state dict `state` gives other logits than the trained network."""
        label = self.architecture_label
        with attribute_errors(label, "loading its own state"):
            self.probe.load(state)
        with attribute_errors(label, "forward"):
            expected = predict_batch(trained, self.probe_images)
            found = predict_batch(self.probe, self.probe_images)
        if bool(expected.isfinite().all()) and differ(expected, found, _TOLERANCE):
            missing = missing_from_state(trained.module, self.probe.module)
            raise PluginFailed(
                f"{label}: a fresh network with the stored weights gives other logits than the trained one: {missing}"
            )


def _located_dataset(catalogue: Catalogue, identity: Identity, data: Path) -> Dataset:
    """Return the data set with an identity, for this data root. Raise `UserError` if the fingerprint differs."""
    own = {name: value for name, value in identity.items() if name != "fingerprint"}
    named: Dataset = catalogue.from_identity("dataset", own)
    with attribute_errors(plugin_label(catalogue, "dataset", named), "located"):
        dataset = named.located(data)
    if dataset.fingerprint != identity["fingerprint"]:
        raise UserError(f"data set '{dataset.full_name}' is not the one the task was made for: its fingerprint differs")
    return dataset


def _load(dataset: Dataset, label: str, data: Path) -> tuple[Split, Split]:
    """Return the training and the test split; raise `PluginFailed` if they are not as the data set declares."""
    with explained(dataset.full_name, data), attribute_errors(label, "load"):
        splits = dataset.load(data)
    if not isinstance(splits, tuple | list) or len(splits) != 2:
        raise PluginFailed(f"{label}: load gave a {type(splits).__name__}; a training and a test split are expected")
    train, test = splits
    check_split(f"{label}: load gave a training split", train, dataset)
    check_split(f"{label}: load gave a test split", test, dataset)
    if len(train) != dataset.train_size:
        raise PluginFailed(f"{label}: load gave {len(train)} training images; train_size is {dataset.train_size}")
    return train, test
