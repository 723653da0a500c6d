"""A setting made real on a device: data, augmentation, networks. Knows no task and no store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.blame import blamed
from harness.catalogue import Catalogue
from harness.errors import UserError
from harness.evaluation import Images
from harness.guard import built, called, check_split
from harness.interfaces import Architecture, Dataset
from harness.normalization import normalization_of
from harness.options import options_from_json
from harness.recipe import Recipe
from harness.training.augmentation import Augmenter
from harness.weights import FlatNetwork


class Room:
    """A data set, an architecture and a recipe on a device. Kept by the worker from task to task."""

    def __init__(self, catalogue: Catalogue, spec: dict[str, Any], data: Path, device: torch.device) -> None:
        self.device = device
        self.recipe: Recipe = options_from_json(Recipe, spec["recipe"])
        identity = {k: v for k, v in spec["dataset"].items() if k != "fingerprint"}
        self.dataset: Dataset = catalogue.from_identity("dataset", identity)
        if self.dataset.fingerprint != spec["dataset"]["fingerprint"]:
            raise UserError(f"data set '{self.dataset.name}' is not the one the task was made for: its fingerprint differs")
        self.architecture: Architecture = catalogue.from_identity("architecture", spec["architecture"])
        who = called(catalogue, "dataset", self.dataset)
        with blamed(who, "load"):
            self.train, self.test = self.dataset.load(data)
        for name, split in (("training", self.train), ("test", self.test)):
            check_split(f"{who}: load gave a {name} split", split, self.dataset)
        self._builder = called(catalogue, "architecture", self.architecture)
        self.labels = self.train.labels.to(device)
        self.normalisation = normalization_of(self.recipe, self.dataset)
        mean, std = self.normalisation
        self.augmenter = Augmenter(self.train.images, self.recipe.augmentation, mean, std, device)
        self.train_images = Images(self.train, self.normalisation, device)
        self.test_images = Images(self.test, self.normalisation, device)

    def module(self, stream: int = 0) -> torch.nn.Module:
        """Return a freshly initialised network."""
        return built(self.architecture, self._builder, self.dataset, stream)

    def network(self, stream: int = 0, *, gradient: bool = False) -> FlatNetwork:
        """Return a freshly initialised network on the device, in one vector."""
        return FlatNetwork(self.module(stream), self.device, gradient=gradient)
