"""What is known of a run's tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from harness.plan.graph import Graph


@dataclass
class RunState:
    """What is known of a run's tasks: the values of measurements and what they warn of, and why tasks failed."""

    values: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)  # failed training → the failed check under which details are stored
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    trained: float = 0.0  # epochs of plain training done in this run
    done: int = 0

    def failed(self, roots: Iterable[str], graph: Graph) -> str:
        """Return the key of a failed task among some tasks and all that they stand on, or nothing."""
        seen: set[str] = set()
        stack = list(roots)
        while stack and self.failures:
            key = stack.pop()
            if key in seen:
                continue
            seen.add(key)
            if key in self.failures:
                return key
            stack.extend(graph.tasks[key].parents)
        return ""
