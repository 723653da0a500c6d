"""Interface of figures: the pictures of a report. Importing this module does not import matplotlib."""

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
    """One epoch of a training: its number from 1, and the mean loss and accuracy (percent) on the augmented training images."""

    epoch: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Training:
    """The epochs that a training task reported, in order. `task` is the task's key.

    `methods` are the labels of the methods that need the training: a deep member is also an input of every alignment. `seed`
    and `member` are those of its order of batches, `objective` is the name of its loss, and `until` its last epoch when it is
    complete. Events of older runs lack them: then they are empty, or None.
    """

    task: str
    epochs: tuple[Epoch, ...]
    methods: tuple[str, ...] = ()
    seed: int | None = None
    member: int | None = None
    objective: str = ""
    until: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the last epoch was reported, as far as it is known."""
        return self.until is None or (bool(self.epochs) and self.epochs[-1].epoch >= self.until)


@dataclass(frozen=True)
class FigureData:
    """The input of a figure: the results of one benchmark on one data set and architecture. Do not modify it.

    `table` is the board's table: the methods with each main metric, averaged over seeds. `rows` are the rows of
    `results.csv` behind it, with one column per field of a row; `value` is NaN unless `status` is "done". `builders`
    maps the label of a method (column `method`) to its registered name, for the methods listed in `run.json`.
    `trainings` are the trainings known to be on this data set and architecture. `facts` is the content of `run.json`,
    empty if the file is missing. `folder` is the run's folder.
    """

    table: Table
    rows: pd.DataFrame
    builders: Mapping[str, str]
    trainings: tuple[Training, ...]
    facts: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True)
class Plot:
    """One picture of a figure: title, caption, the plotted data as a table, and a function that draws it.

    `records` are the rows of the table, each as long as `columns`: numbers, strings, or None for an empty field. The
    report shows the table below the picture; `harness report --figures` writes it as CSV. `paint(canvas)` draws on an
    empty `matplotlib.figure.Figure` of `size`, width and height in inches, each at most 300. The report's style is
    active. Raise `ValueError` for a field of a wrong type or range.
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
    """Draws one kind of picture for the report from measured rows. It computes no metric and trains nothing.

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

    The report makes one instance with default options and calls `draw` once per table of the board. It names the files
    after the figure, the data set and the architecture. If a figure raises an exception, the report lists the error
    and omits the figure.
    """

    @abstractmethod
    def draw(self, data: FigureData) -> Iterable[Plot]:
        """Return the plots for a table, in order; none if the rows contain no data for this figure.

        The same data must give the same plots. Do not draw here: `Plot.paint` draws, once per file format.
        """
