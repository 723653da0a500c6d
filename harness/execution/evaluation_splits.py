"""The splits of evaluation sets for one data set, on a device. Independent of tasks and store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from harness.api.data import Split
from harness.api.evaluation_set import EvaluationSet
from harness.api.interfaces import Dataset
from harness.api.specs import EvaluationSpec
from harness.api.task import canonical_json
from harness.errors import UserError, attribute_errors
from harness.execution.data_root import explained
from harness.execution.plugin_calls import plugin_label
from harness.execution.plugin_results import check_split
from harness.networks.evaluation import NormalizedImages
from harness.registry.catalogue import Catalogue

MAX_BYTES = 2**30
"""Most bytes of images that are kept for the next members; the split in use may be larger."""


class EvaluationSplits:
    """Loads splits of evaluation sets, and keeps the latest ones, since each is needed once per member."""

    def __init__(
        self,
        catalogue: Catalogue,
        dataset: Dataset,
        normalization: tuple[Sequence[float], Sequence[float]],
        data: Path,
        device: torch.device,
    ) -> None:
        self._catalogue = catalogue
        self._dataset = dataset
        self._normalization = normalization
        self._data = data
        self._device = device
        self._kept: dict[str, tuple[Split, NormalizedImages]] = {}  # the latest last

    def get(self, spec: EvaluationSpec) -> tuple[Split, NormalizedImages]:
        """Return a split and its images on the device. Raise `UserError` if the images are other ones than the spec's."""
        name = canonical_json([spec.evaluation_set["name"], spec.split, spec.fingerprint])
        if name in self._kept:
            self._kept[name] = self._kept.pop(name)
            return self._kept[name]
        split = self._load(spec)
        self._make_room(_bytes(split))
        self._kept[name] = split, NormalizedImages(split, self._normalization, self._device)
        return self._kept[name]

    def _load(self, spec: EvaluationSpec) -> Split:
        evaluation_set: EvaluationSet = self._catalogue.from_identity("evaluation_set", spec.evaluation_set)
        label = plugin_label(self._catalogue, "evaluation_set", evaluation_set)
        with attribute_errors(label, "fingerprint"):
            fingerprint = evaluation_set.fingerprint(self._dataset, spec.split)
        if fingerprint != spec.fingerprint:
            raise UserError(f"{label}: split '{spec.split}' is not the one the task was made for: its fingerprint differs")
        with explained(self._dataset.full_name, self._data), attribute_errors(label, "load"):
            split = evaluation_set.load(self._dataset, spec.split, self._data)
        check_split(f"{label}: load gave a split '{spec.split}'", split, self._dataset)
        return split

    def _make_room(self, needed: int) -> None:
        """Forget the splits that were used the longest ago."""
        kept = sum(_bytes(split) for split, _ in self._kept.values())
        while self._kept and kept + needed > MAX_BYTES:
            split, _ = self._kept.pop(next(iter(self._kept)))
            kept -= _bytes(split)


def _bytes(split: Split) -> int:
    return split.images.numel()
