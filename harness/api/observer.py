"""Interface of observers, such as loggers, which follow a run while it goes on. Importing this module does not import torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.plugin import Plugin
from harness.leaderboard import Board, board
from harness.results.rows import read_rows
from harness.telemetry.events import Event

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ObservedRun:
    """The run that an observer follows.

    `benchmark` is the benchmark's name, `objective` the name of the objective of plain training. `folder` is the run's folder,
    as an absolute path; an observer's own files belong in a folder of its name there. `settings` is the resolved benchmark
    (JSON).
    """

    benchmark: str
    objective: str
    folder: Path
    settings: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class RunResults:
    """What a run has measured so far. `status` is done, failed (some cells) or interrupted. Do not modify what you get."""

    status: str
    folder: Path

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows of `results.csv`, one measured value each, also those of earlier runs in this folder."""
        return read_rows(self.folder)

    @cached_property
    def board(self) -> Board:
        """The board of these rows (`harness.leaderboard`)."""
        return board({str(self.folder): self.rows})


class Observer(Plugin):
    """Follows a run, such as a logger. A run has an observer only if its benchmark file or `--observe NAME` names it.

    class PrintEpochs(Observer):
        name = "print_epochs"

        def start(self, run):
            self.file = open(run.folder / "epochs.txt", "a")

        def observe(self, event):
            if isinstance(event, events.EpochEnded):
                print(event.description, event.epoch, event.loss, file=self.file)

        def close(self):
            self.file.close()

    `check` is called before anything is computed. The other methods are called on a thread of their own, and the run does not
    wait for them: `start`, `observe` for each event, `finish`, `close`. If one of them raises an exception, the run says so
    once and continues; then only `close` is called. After the run, observers get a minute to finish.

    Do not write to standard output, which belongs to the command. `harness.testing.check_observer` checks an observer.
    """

    def check(self) -> None:
        """Raise `UserError` if this observer cannot work here: a library is missing, or the options do not fit."""

    def start(self, run: ObservedRun) -> None:
        """Prepare to observe a run. `run.folder` exists."""

    @abstractmethod
    def observe(self, event: Event) -> None:
        """Observe one event, an instance of one of the classes in `harness.events`. All events of a run come in order."""

    def finish(self, results: RunResults) -> None:
        """Note the results. Called once the run's folder is complete; not called if the run ended with an error."""

    def close(self) -> None:
        """Release what `start` and `observe` acquired. Called once if `start` was called, also if that failed."""
