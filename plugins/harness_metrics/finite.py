"""Refuse members that diverged: a NaN logit would be a wrong answer in one metric and a NaN row in another."""

from __future__ import annotations

import numpy as np


def refuse_non_finite(logits: np.ndarray) -> None:
    """Raise ValueError if a logit is NaN or infinite, naming the first such member; logits (members, examples, classes)."""
    bad = ~np.isfinite(logits).all(axis=2)  # (members, examples)
    if not bad.any():
        return
    member = int(bad.any(axis=1).argmax())
    count = int(bad[member].sum())
    first = int(bad[member].argmax())
    raise ValueError(
        f"member {member}: logits that are not finite on {count} of {bad.shape[1]} examples (the first is example {first}); "
        "the network has diverged: lower its learning rate, or leave the member out"
    )
