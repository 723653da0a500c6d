"""Figures of a report as plugins: the abstract class, what a figure is given, and what it returns. Costs no matplotlib."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.api.plugin import Plugin

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Canvas

    from harness.leaderboard import Table

_LONGEST_SIDE = 300.0  # inches; matplotlib refuses pictures of 2**16 pixels


class Epoch(NamedTuple):
    """An epoch of a training: its number from 1, mean loss, and accuracy in percent, on the training images as augmented."""

    epoch: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Training:
    """The epochs that a training task reported, in their order; `task` is the task's key."""

    task: str
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True)
class FigureData:
    """What a figure is drawn from: all that is known of one benchmark on one data set and architecture. Read it only.

    `table` is the board's table: methods, and each main metric averaged over seeds. `rows` are the rows behind it as
    `results.csv` has them, details included (one column per field of a row; `value` is NaN unless `status` is "done").
    `builders` gives the registered name of the method that a row's `method` stands for, as far as `run.json` tells.
    `trainings` are those known to be of this data set and architecture. `facts` is the content of `run.json`, empty if there is
    none. `folder` is the run's folder.
    """

    table: Table
    rows: pd.DataFrame
    builders: Mapping[str, str]
    trainings: tuple[Training, ...]
    facts: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True)
class Plot:
    """One picture of a figure: what it says, its data as a table, and how it is drawn.

    `records` holds one tuple per line of the table, as long as `columns`: numbers, texts, or None for an empty field. The page
    shows the table below the picture, and `--figures` writes it as CSV. `paint(canvas)` draws on an empty
    `matplotlib.figure.Figure` of `size` (width and height in inches), in the report's style. Raise `ValueError` if a field
    is not what it must be.
    """

    title: str
    caption: str
    columns: tuple[str, ...]
    records: tuple[tuple[object, ...], ...]
    paint: Callable[[Canvas], None]
    size: tuple[float, float] = (7.6, 3.7)

    def __post_init__(self) -> None:
        for name in ("title", "caption"):
            text = getattr(self, name)
            if not isinstance(text, str):
                raise ValueError(f"plot: {name} is {text!r}; a text is needed")
        for record in self.records:
            if len(record) != len(self.columns):
                raise ValueError(f"plot '{self.title}': a record has {len(record)} fields, the columns are {len(self.columns)}")
        if not callable(self.paint):
            raise ValueError(f"plot '{self.title}': paint is {self.paint!r}; a function of the canvas is needed")
        for side in self.size:
            if not (math.isfinite(side) and 0 < side <= _LONGEST_SIDE):
                raise ValueError(f"plot '{self.title}': size is {self.size}; inches above 0 and up to {_LONGEST_SIDE:g}")


class Figure(Plugin):
    """Draws one kind of picture for the report, from rows that are already measured. It computes no metric and trains nothing.

    class CalibrationByMethod(Figure):
        name = "calibration_by_method"

        def draw(self, data):
            rows = data.rows[data.rows["metric"] == "expected_calibration_error"]
            means = rows.groupby("method")["value"].mean().dropna()
            if means.empty:
                return

            def paint(canvas):
                axes = canvas.subplots()
                axes.barh([drawing.label(method) for method in means.index], means)
                axes.set_xlabel("expected calibration error (%)")

            yield Plot(
                title="Calibration by method",
                caption="Mean over seeds.",
                columns=("method", "expected_calibration_error"),
                records=tuple(means.items()),
                paint=paint,
            )

    The report makes one instance with default options and calls `draw` once per table of the board. It names the files after
    the figure, the data set and the architecture. A figure that raises is named on the page and left out; the rest of the page
    is unharmed.
    """

    @abstractmethod
    def draw(self, data: FigureData) -> Iterable[Plot]:
        """Return the plots of a table, in order: usually one, none where its rows hold nothing that the figure shows.

        The same data must give the same plots. Do not change what `data` holds. Draw nothing here: `Plot.paint` does, and it
        may be called several times, once per file format.
        """
