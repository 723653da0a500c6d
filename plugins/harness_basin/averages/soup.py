"""Model soups: one network whose weights are the average of others' (Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

import harness
from harness import Cell, Dataset, Derivation, EnsembleBuilder, PluginChoice, Recipe, Weights
from harness_basin.averages.averaging import GreedySoup, UniformSoup


class SoupOptions(harness.Options):
    """Whose members are averaged, and which of them."""

    of: PluginChoice = Field(
        "varied",
        description="the method whose members are averaged, with its options or without",
        json_schema_extra={"plugin": "ensemble_builder"},
    )
    selection: Literal["uniform", "greedy"] = Field(
        "uniform", description="average all members, or only those that raise the accuracy on a held-out split"
    )
    split: str = Field("held_out", description="the held-out split of `selection: greedy`")


class Soup(EnsembleBuilder):
    """The average of another method's members: one network, at their cost."""

    name, version = "soup", 1
    Options = SoupOptions

    def check(self, recipe: Recipe, members: int) -> None:
        """Raise `ValueError` if the method whose members are averaged cannot run."""
        of: EnsembleBuilder = self.chosen["of"]
        of.check(recipe, members)

    def check_dataset(self, dataset: Dataset, recipe: Recipe) -> None:
        """Raise `ValueError` if the soup is greedy and the data set has no such split."""
        super().check_dataset(dataset, recipe)
        self._require_split(dataset)

    def _require_split(self, dataset: Dataset) -> None:
        options: SoupOptions = self.options
        known = dataset.evaluation_splits
        if options.selection == "greedy" and options.split not in known:
            have = ", ".join(known) or "none"
            raise ValueError(
                f"{options.describe('split')}; '{dataset.name}' has {have} (a smaller train_size leaves images for 'held_out')"
            )

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the average. Raise `ValueError` if it is greedy and the data set, once located, has no such split."""
        options: SoupOptions = self.options
        self._require_split(cell.setting.dataset)
        derivation: Derivation = UniformSoup()
        if options.selection == "greedy":
            derivation = GreedySoup(GreedySoup.Options(split=options.split))
        of: EnsembleBuilder = self.chosen["of"]
        written = options.of
        own = {} if isinstance(written, str) else written[of.name]
        return cell.derive(derivation, cell.build(of.name, **own))
