"""Networks that cannot be trained or stored, as architectures, and what a run says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

import toys
from harness import Architecture
from harness.plan.graph import Graph

LABEL = "architecture 'odd' of plugin 'toys' of distribution 'tests 0'"


class Net(nn.Module):
    """A classifier of 4×4 images into 4 classes; `odd` changes its hidden layer or its output."""

    def __init__(self, odd: Callable[[Net, Tensor], Any] = lambda net, x: x) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 8), nn.Linear(8, 4)
        self.odd = odd

    def forward(self, x: Tensor) -> Any:
        return self.odd(self, self.last(self.first(x.flatten(1)).relu()))


def architecture(make: Callable[[], nn.Module]) -> type[Architecture]:
    """Return an architecture of a module's constructor."""

    class Odd(Architecture):
        """A network with a trait."""

        name = "odd"

        def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
            return make()

    return Odd


def failure_of(lab: Any, graph_of: Callable[..., Graph], *plugins: tuple[str, type], **changes: Any) -> list[str]:
    """Run a benchmark and return the messages of its failures; nothing may have been trained."""
    found = toys.catalogue(*plugins)
    ledger = lab.run(graph_of(found, **changes), found)
    assert lab.trained() == []
    return sorted(set(ledger.failures.values()))
