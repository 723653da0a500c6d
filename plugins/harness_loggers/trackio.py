"""The observer `trackio`: runs in a local database, which `trackio show` shows. No server is started."""

from __future__ import annotations

import contextvars
import hashlib
from typing import TYPE_CHECKING, Any

from pydantic import Field

import harness
from harness import ObservedRun, RunResults
from harness_loggers.tables import LoggedTable, board_table, cell_values, values_table
from harness_loggers.trainings import Training, TrainingLogger

if TYPE_CHECKING:
    import trackio


class TrackioOptions(harness.Options):
    """Options of the observer `trackio`. `TRACKIO_DIR` is the folder of its databases."""

    project: str | None = Field(None, min_length=1, max_length=100, description="the project; null: the benchmark's name")


class Trackio(TrainingLogger):
    """Logs to a local database of trackio.

    Each training is a run, with the curves `loss`, `accuracy` and `learning_rate` by epoch. One more run, `board`, has the
    values of each cell and the board as tables.
    """

    name = "trackio"
    package = "trackio"
    Options = TrackioOptions

    def start(self, run: ObservedRun) -> None:
        """Choose the project."""
        super().start(run)
        self._project: str = self.options.project or run.benchmark
        _silence()

    def open_training(self, training: Training) -> _Run:
        """Return the run of a training: a new one, or the one of that name, which it continues."""
        return _Run(self._init(training.name, "/".join(training.path[:3]), training.settings))

    def log_results(self, results: RunResults) -> None:
        """Log both tables to the run `board`, which is one per folder. It replaces an earlier one."""
        import trackio

        place = hashlib.sha256(str(self.run.folder).encode()).hexdigest()[:8]
        name = f"board of {self.run.folder.name} {place}"
        for earlier in trackio.Api().runs(self._project):
            if earlier.name == name:
                earlier.delete()
        run = self._init(name, "board", dict(self.run.settings))
        values = values_table(cell_values(results.rows))
        run.log({"values": _table(values), "board": _table(board_table(results.board))}, step=0)
        run.finish()

    def _init(self, name: str, group: str, settings: dict[str, Any]) -> trackio.Run:
        """Return a run. trackio ends the run of the context before it begins another, so each has a context of its own."""
        import trackio

        def init() -> trackio.Run:
            return trackio.init(
                project=self._project,
                name=name,
                group=group,
                config=settings,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

        return contextvars.Context().run(init)


class _Run:
    """The run of a training."""

    def __init__(self, run: trackio.Run) -> None:
        from trackio.sqlite_storage import SQLiteStorage

        self._run = run
        last = SQLiteStorage.get_max_step_for_run(run.project, run.name, run_id=run.id)
        self._last = -1 if last is None else last

    def log(self, epoch: int, values: dict[str, float]) -> None:
        if epoch > self._last:  # a resumed training repeats what followed its last saved state
            self._run.log(values, step=epoch)

    def close(self) -> None:
        self._run.finish()


def _table(table: LoggedTable) -> trackio.Table:
    import trackio

    return trackio.Table(columns=list(table.columns), data=[list(line) for line in table.lines])


def _silence() -> None:
    """Let trackio print nothing: standard output, which other threads use, belongs to the command."""
    import trackio.run
    import trackio.utils

    for module in (trackio, trackio.run, trackio.utils):
        vars(module)["print"] = _print_nothing


def _print_nothing(*texts: object, **options: object) -> None:
    pass
