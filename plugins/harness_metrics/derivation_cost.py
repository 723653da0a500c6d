"""What derivations, such as alignments, cost: time, images, steps and assignments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness import Metric, MetricValue

if TYPE_CHECKING:
    from harness import EvaluatedEnsemble

_COUNTS = ("images", "gradient_steps", "assignments")
"""Facts of a derivation that count what it did."""


class DerivationCost(Metric):
    """The time in which derivations made the members, in seconds, with the numbers of images, steps and assignments.

    Trained members cost nothing here. The time is that on the machine where the members were derived; a run that finds them in
    its store has the time of the run that made them.
    """

    name, version = "derivation_cost", 1
    title, symbol, better = "Derivation time", "time", ""
    needs_derivations = True

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the sum of the times, then one sum per count of which a derivation tells."""
        seconds = sum(record.seconds for record in ensemble.derivations)
        yield MetricValue(self.name, float(seconds), unit="seconds")
        for name in _COUNTS:
            counts = [record.facts[name] for record in ensemble.derivations if name in record.facts]
            if counts or not ensemble.derivations:
                yield MetricValue(f"derivation_{name}", float(sum(counts)))
