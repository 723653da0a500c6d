"""Numbers that a module counts up in plain attributes while it is trained, and whether its function depends on them.

No state dict holds such a number. It starts anew where a training goes on from a checkpoint or a kept state, so a network that
depends on it would compute something else there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from harness.networks.evaluation import differ

_FAR = 10**6  # passes by which a counter is set forward; it is also set back to 0

_PASSES = 3  # a counter has another value after each of them; a size that is noted once has not


def effective_counter(module: nn.Module, behavior: Callable[[], Sequence[Tensor]]) -> str:
    """Return the name of a counter on which a module's behavior depends, or nothing.

    `behavior` makes a training-mode pass that leaves no other trace, and returns whatever could depend on a counter.
    """
    values = []
    found: Sequence[Tensor] = ()
    for _ in range(_PASSES):
        found = behavior()
        values.append(_numbers(module))
    before, last = values[-2], values[-1]
    for place, value in last.items():
        step = value - before.get(place, value)
        if not step or before[place] == values[-3].get(place):
            continue
        name, owner, attribute = place
        for elsewhere in (value + _FAR * step, type(value)(0)):
            setattr(owner, attribute, elsewhere)
            there = behavior()
            setattr(owner, attribute, value)
            if any(differ(one, other) for one, other in zip(found, there, strict=True)):
                return name
    return ""


def _numbers(module: nn.Module) -> dict[tuple[str, nn.Module, str], int | float]:
    """Return the plain attributes that are numbers, by full name, owner and attribute."""
    numbers = {}
    for prefix, owner in module.named_modules():
        for attribute, value in vars(owner).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers[f"{prefix}.{attribute}".lstrip("."), owner, attribute] = value
    return numbers
