"""Interface of ensemble builders, the methods of a benchmark."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from harness.api.cell import Cell
from harness.api.interfaces import Dataset
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

    def located(self, folder: Path) -> EnsembleBuilder:
        """Return an instance that `build` works on; this one by default.

        Override it if an option names a file or a folder: a relative path is relative to `folder`, that of the benchmark file.
        The handles of the instance must depend on what the file holds, such as its digest, and not on its path. Called for
        every plan, but not by `harness check`. Raise `UserError` if the file is missing; the message names it.
        """
        return self

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` if the options, including defaults, do not fit the recipe and the number of members M.

        Called for every data set and architecture when a benchmark file is read. The message names the option with
        its value (`self.options.describe("fork_epoch")`), the recipe's value and what is allowed.
        """

    def check_dataset(self, dataset: Dataset, recipe: Recipe) -> None:
        """Raise `ValueError` if the options, including defaults, do not fit a data set. Called after `check`; reads no data.

        By default, the methods that options name are asked. An override calls this one first.
        """
        for plugin in self.chosen.values():
            if isinstance(plugin, EnsembleBuilder):
                plugin.check_dataset(dataset, recipe)
