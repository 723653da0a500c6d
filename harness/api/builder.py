"""What an ensemble builder supplies: the members of a cell, as handles."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from harness.api.cell import Cell
from harness.api.plugin import Plugin
from harness.api.recipe import Recipe
from harness.api.trajectory import Weights


class EnsembleBuilder(Plugin):
    """Says which weights make up an ensemble. It trains nothing: it returns handles.

    class DeepEnsemble(EnsembleBuilder):
        name = "deep"

        def build(self, cell):
            return [cell.trajectory(member=j).at(cell.epochs) for j in range(cell.size)]
    """

    @abstractmethod
    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the ensemble's members, in order, as handles."""

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` if the options, defaults too, do not fit the recipe and M.

        The message names the option (`self.options.describe(…)` does), the recipe's value and what is allowed.
        """
