"""Distances of members in weight space, and what derivations cost, against values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from harness import DerivationRecord
from harness_metrics import DerivationCost, WeightDistance


def test_distance_of_three_members(toy, measure):
    """Pairs (0, 1), (0, 2), (1, 2) have distances 5, 1 and √20; the zero vector has cosine 0 with all others."""
    logits = np.array([[[0.0, 0.0]], [[3.0, 4.0]], [[1.0, 0.0]]])
    values = measure(WeightDistance, toy(logits, [0]))
    assert values == {
        "weight_distance": pytest.approx((5 + 1 + np.sqrt(20)) / 3),
        "weight_inner_product": pytest.approx(3 / 3),
        "weight_cosine": pytest.approx((0 + 0 + 3 / 5) / 3),
    }


def test_distance_of_one_member(toy, measure):
    """A single member is at distance 0."""
    values = measure(WeightDistance, toy(np.ones((1, 1, 2)), [0]))
    assert values == {"weight_distance": 0, "weight_inner_product": 0, "weight_cosine": 1}


def test_distance_of_distant_members(toy, measure):
    """Equal members far from the origin have distance 0, not the root of a rounding error below 0."""
    values = measure(WeightDistance, toy(np.full((2, 3, 2), 1e4), [0, 0, 0]))
    assert values["weight_distance"] == 0


def test_cost_of_two_derivations(toy, measure):
    """Times and counts are summed; a count of which no derivation tells has no value."""
    ensemble = toy(np.ones((3, 1, 2)), [0])
    ensemble.derivations = (
        DerivationRecord("a", 1.5, {"images": 10, "assignments": 4}),
        DerivationRecord("a", 2.0, {"images": 20}),
    )
    values = measure(DerivationCost, ensemble)
    assert values == {"derivation_cost": 3.5, "derivation_images": 30, "derivation_assignments": 4}


def test_cost_of_trained_members(toy, measure):
    """Without derivations everything is 0."""
    values = measure(DerivationCost, toy(np.ones((3, 1, 2)), [0]))
    assert set(values.values()) == {0}
    assert len(values) == 4
