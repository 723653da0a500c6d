"""Which operations of a recorded run compute activations, and which activations they are computed from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from harness_basin.matching.rules import rearrangements, spatial
from harness_basin.matching.rules.operations import Operation

_COPIES = {"alias", "detach", "clone", "contiguous", "_to_copy", "copy", "lift_fresh"}

MOVES = (set(rearrangements.RULES) | set(spatial.RULES) | _COPIES) - {"glu"}
"""Operations that move, copy, pad, pool or resize values: they compute no activations of their own."""

INPUT = -1
"""The producer of the network's input."""


class DataFlow:
    """The activations of a run: every array that depends on the network's input.

    An array's producer is the last operation that computed its values; operations in `MOVES` compute none. `arguments[n]` and
    `sources[n]` are the activations that operation n reads, and their producers.
    """

    def __init__(self, operations: Sequence[Operation], example: Tensor) -> None:
        self.arguments: list[list[Tensor]] = []
        self.sources: list[list[int]] = []
        self._producers = {id(example): INPUT}
        self._ancestors = {INPUT: 0}  # by producer: a bit per operation
        for number, operation in enumerate(operations):
            active = [tensor for tensor in operation.tensors() if id(tensor) in self._producers]
            sources = [self._producers[id(tensor)] for tensor in active]
            self.arguments.append(active)
            self.sources.append(sources)
            if active:
                self._add(number, operation, sources)

    def _add(self, number: int, operation: Operation, sources: Sequence[int]) -> None:
        """Store the producers of an operation's results."""
        producer = number
        if base_name(operation) in MOVES and len(sources) == 1:
            producer = sources[0]
        else:
            self._ancestors[number] = self._bits(sources)
        for result in operation.results:
            self._producers[id(result)] = producer

    def _bits(self, producers: Iterable[int]) -> int:
        """Return the operations that some producers depend on, and the producers themselves."""
        bits = 0
        for producer in producers:
            bits |= self._ancestors[producer]
            if producer != INPUT:
                bits |= 1 << producer
        return bits

    def is_active(self, number: int) -> bool:
        """Return whether an operation reads an activation."""
        return bool(self.arguments[number])

    def depends(self, later: int, earlier: int) -> bool:
        """Return whether what one producer computes depends on what another one computed."""
        return earlier == INPUT or bool(self._ancestors[later] >> earlier & 1)


def base_name(operation: Operation) -> str:
    """Return the name of an operation, without the suffix of in-place operations."""
    return operation.name.rstrip("_") if operation.writes else operation.name
