"""How far a value may be from the published one: not at all on the same kind of machine, else by metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.api.interfaces import Metric

PERCENT = 0.1
"""Percentage points by which accuracies and the like may differ between kinds of machines, or `IMAGES` if that is more."""
IMAGES = 2
"""Test images whose class may change by rounding."""
RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""How far other values may differ, relative to the published value and absolutely; the sum of both."""


@dataclass(frozen=True)
class Comparison:
    """How values are compared. `exact` is True if rounding is the same here as where they were published.

    `images` is the number of test images.
    """

    exact: bool
    images: int

    def tolerance(self, metric: Metric, unit: str, value: float) -> float:
        """Return the largest difference from a published value that counts as rounding, in the value's unit."""
        if self.exact:
            return 0.0
        if metric.tolerance is not None:
            return metric.tolerance
        if unit == "percent":
            return max(PERCENT, 100 * IMAGES / self.images)
        return ABSOLUTE + RELATIVE * abs(value)

    def agree(self, metric: Metric, unit: str, published: float, measured: float) -> bool:
        """Return whether a measured value agrees with the published one. NaN agrees with NaN, an infinity with itself."""
        if not math.isfinite(published) or not math.isfinite(measured):
            return repr(published) == repr(measured)
        return abs(published - measured) <= self.tolerance(metric, unit, published)

    def examples_agree(self, metric: Metric, unit: str, published: np.ndarray, measured: np.ndarray) -> bool:
        """Return whether the contributions of test images (images,) agree, on average."""
        if published.shape != measured.shape:
            return False
        difference = float(np.abs(published - measured).mean())
        return difference <= self.tolerance(metric, unit, float(np.abs(published).mean()))


def same_kind(published: Mapping[str, Any], here: Mapping[str, Any], device: str) -> bool:
    """Return whether a machine rounds as the one of the publication: both computed on the CPU, of one kind, with one torch.

    `published` is the content of `provenance.json`, `here` this process's provenance, `device` where is measured now.
    """
    run = published.get("run")
    if device != "cpu" or not isinstance(run, Mapping) or run.get("device") != "cpu":
        return False
    if any(published.get(name) != here.get(name) for name in ("machine", "processor")):
        return False
    packages = published.get("packages")
    if not isinstance(packages, Mapping):
        return False
    return all(packages.get(name) == here["packages"].get(name) for name in ("torch", "numpy"))
