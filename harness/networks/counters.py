"""Find counters: numbers that a module keeps in plain attributes, changes in training passes, and depends on.

A state dict does not hold such a number. When a training continues from a checkpoint, the number restarts, and a network that
depends on it computes something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from harness.networks.evaluation import differ

_MANY_PASSES = 10**6  # by which a counter is advanced; it is also reset to 0

_PASSES = 3  # a counter changes in each of them; a size that is recorded once does not


def effective_counter(module: nn.Module, behavior: Callable[[], Sequence[Tensor]]) -> str:
    """Return the full name of a counter on which a module's behavior depends; an empty string if there is none.

    `behavior` runs a training-mode pass that changes nothing but counters, and returns everything that could depend on one.
    """
    values = []
    expected: Sequence[Tensor] = ()
    for _ in range(_PASSES):
        expected = behavior()
        values.append(_numbers(module))
    before, last = values[-2], values[-1]
    for location, value in last.items():
        step = value - before.get(location, value)
        if not step or before[location] == values[-3].get(location):
            continue
        name, owner, attribute = location
        for other_value in (value + _MANY_PASSES * step, type(value)(0)):
            setattr(owner, attribute, other_value)
            found = behavior()
            setattr(owner, attribute, value)
            if any(differ(one, other) for one, other in zip(expected, found, strict=True)):
                return name
    return ""


def _numbers(module: nn.Module) -> dict[tuple[str, nn.Module, str], int | float]:
    """Return the numbers in plain attributes, by full name, owner and attribute."""
    numbers = {}
    for prefix, owner in module.named_modules():
        for attribute, value in vars(owner).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers[f"{prefix}.{attribute}".lstrip("."), owner, attribute] = value
    return numbers
