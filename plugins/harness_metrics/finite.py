"""Refuse members that diverged: a NaN logit would be a wrong answer in one metric and a NaN row in another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from harness import EvaluatedEnsemble, EvaluationSet, Predictions


def refuse_non_finite(logits: np.ndarray, split: str = "") -> None:
    """Raise ValueError if a logit is NaN or infinite, naming the first such member; logits (members, examples, classes).

    The message names the split, unless these are the test images.
    """
    bad = ~np.isfinite(logits).all(axis=2)  # (members, examples)
    if not bad.any():
        return
    member = int(bad.any(axis=1).argmax())
    count = int(bad[member].sum())
    first = int(bad[member].argmax())
    where = f" of split '{split}'" if split else ""
    raise ValueError(
        f"member {member}: logits that are not finite on {count} of {bad.shape[1]} examples{where} (the first is example "
        f"{first}); the network has diverged: lower its learning rate, or leave the member out"
    )


def finite_predictions_on(ensemble: EvaluatedEnsemble, evaluation_set: EvaluationSet) -> Iterator[tuple[str, Predictions]]:
    """Yield name and predictions of each split; raise ValueError for a member that is not finite on it, or on test images.

    A network may be finite on the test images and overflow on others, such as brighter ones.
    """
    refuse_non_finite(ensemble.logits)
    for name, split in ensemble.predictions_on(evaluation_set):
        refuse_non_finite(split.logits, name)
        yield name, split
