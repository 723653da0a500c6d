"""Architectures whose networks cannot be trained or stored, and the failures that a run reports for them."""

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
        self.first = nn.Linear(16, 8)
        self.last = nn.Linear(8, 4)
        self.odd = odd

    def forward(self, x: Tensor) -> Any:
        return self.odd(self, self.last(self.first(x.flatten(1)).relu()))


def architecture(make: Callable[[], nn.Module]) -> type[Architecture]:
    """Return an architecture named `odd` that builds its module with a function."""

    class Odd(Architecture):
        """A network that a function makes."""

        name = "odd"

        def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
            return make()

    return Odd


def failure_of(lab: Any, graph_of: Callable[..., Graph], *plugins: tuple[str, type], **changes: Any) -> list[str]:
    """Run a benchmark and return the distinct messages of its failures, sorted; assert that nothing was trained."""
    catalogue = toys.catalogue(*plugins)
    state = lab.run(graph_of(catalogue, **changes), catalogue)
    assert lab.trained() == []
    return sorted(set(state.failures.values()))
