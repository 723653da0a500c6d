"""Interface of ensemble builders, the methods of a benchmark."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from harness.api.cell import Cell
from harness.api.plugin import Plugin
from harness.api.recipe import Recipe
from harness.api.trajectory import Weights


class EnsembleBuilder(Plugin):
    """Declares which weights make up an ensemble. It trains nothing: it returns handles, and the harness trains.

    class DeepEnsemble(EnsembleBuilder):
        name = "deep"

        def build(self, cell):
            return [cell.trajectory(member=j).at(cell.epochs) for j in range(cell.size)]

    A handle is a value that names weights which may not exist yet: a checkpoint of a trajectory, or weights derived
    from other weights (see `harness.Weights`). Equal handles of several builders are trained once.

    `build` of constrained ensembles, whose members share their first t epochs (Lion et al. 2024, section 3):

        trunk = cell.trajectory(member=0).at(self.options.fork_epoch)
        return [trunk.fork(order=j).at(cell.epochs) for j in range(cell.size)]
    """

    @abstractmethod
    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the handles of the ensemble's members, in order; usually `cell.size` of them.

        The result must be a function of the options and the cell alone. An exception fails the cell, not the run.
        """

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` if the options, including defaults, do not fit the recipe and the number of members M.

        Called for every data set and architecture when a benchmark file is read. The message names the option with
        its value (`self.options.describe("fork_epoch")`), the recipe's value and what is allowed.
        """
