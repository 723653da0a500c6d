"""Match one network again and again to a reference that changes little between calls.

The potentials of the assignments are kept. Each descent starts at the permutations of the last one, so that it is mostly one
sweep without progress.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from harness import StateDict
from harness_basin.matching.coordinate_descent.coordinate import coordinates
from harness_basin.matching.coordinate_descent.descent import PROGRESS, descend
from harness_basin.matching.coordinate_descent.gram import Pair
from harness_basin.matching.symmetry import Permutations, Symmetry


class Rematcher:
    """Weight matching of one network, with Gram matrices in float32.

    `assignments` counts the linear assignment problems that were solved. Raise `Mismatch` for weights of another network.
    """

    def __init__(self, symmetry: Symmetry, other: StateDict) -> None:
        self._pair = Pair(symmetry, {}, symmetry.checked(other, "other"), torch.float32)
        self._coordinates = coordinates(self._pair)
        self._counted = [block for block in symmetry.blocks if block.counts]
        self.assignments = 0

    def forget(self) -> None:
        """Forget the assignments of earlier calls: the next results depend on the arguments alone."""
        for coordinate in self._coordinates:
            coordinate.restart()

    def match(self, reference: StateDict, start: Permutations, *, stream: int, max_sweeps: int = 100) -> Permutations:
        """Return permutations that align the network to the reference at least as well as `start`, compared in float64.

        The reference's tensors may be changed in place between calls. Raise `TaskFailed` for weights that are not finite.
        """
        self._pair.reference.update(self._pair.symmetry.checked(reference, "reference"))
        try:
            found = descend(self._coordinates, start, stream, max_sweeps)
        finally:
            for coordinate in self._coordinates:
                coordinate.forget_grams()
        self.assignments += found.assignments
        if all(torch.equal(new, old) for new, old in zip(found.permutations, start, strict=True)):
            return start
        exact = replace(self._pair, dtype=torch.float64)
        rise = exact.value(self._counted, found.permutations) - exact.value(self._counted, start)
        return found.permutations if rise > PROGRESS else start
