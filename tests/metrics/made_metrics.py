"""Registered metrics with the plugins that their options name."""

from __future__ import annotations

from harness import Metric
from harness.registry.catalogue import load_catalogue

CATALOGUE = load_catalogue()


def made(metric: type[Metric], **options: object) -> Metric:
    """Return a registered metric with the plugins that its options name."""
    created: Metric = CATALOGUE.create("metric", metric.name, metric.Options(**options))
    return created
