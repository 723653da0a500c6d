"""The observer `wandb`: runs in a project of Weights & Biases, or offline in the run's folder."""

from __future__ import annotations

import hashlib
import os
import socket
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

import harness
from harness import RunResults, UserError
from harness_loggers.tables import LoggedTable, board_table, cell_values, values_table
from harness_loggers.trainings import Training, TrainingLogger

if TYPE_CHECKING:
    import wandb

_LONGEST = 128  # characters of a name that the service accepts


class WandbOptions(harness.Options):
    """Options of the observer `wandb`. Further settings are those of the library: `WANDB_MODE`, `WANDB_BASE_URL`, ..."""

    project: str | None = Field(
        None, pattern=r"^[^/\\#?%:]+$", max_length=_LONGEST, description="the project; null: the benchmark's name"
    )
    entity: str | None = Field(None, min_length=1, description="the user or team; null: the account's default")
    mode: Literal["online", "offline"] | None = Field(
        None, description="offline: write to DIR/wandb, for `wandb sync`; null: WANDB_MODE, or else online"
    )


class WeightsAndBiases(TrainingLogger):
    """Logs to Weights & Biases.

    Each training is a run, with the curves `loss`, `accuracy` and `learning_rate` by epoch. One more run, `board`, has the
    values of each cell and the board as tables. Files are written to the folder `wandb` of the run's folder.
    """

    name = "wandb"
    package = "wandb"
    Options = WandbOptions

    def check(self) -> None:
        """Raise `UserError` if the package is not installed, or nobody is logged in."""
        super().check()
        if self._mode() != "online":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing leaves the machine; read at import
            return
        import wandb

        try:
            wandb.login()
        except wandb.Error as error:
            advice = "log in with `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline"
            raise UserError(f"nobody is logged in ({error}); {advice}") from None

    def open_training(self, training: Training) -> _Run:
        """Return the run of a training. Its ID is derived from the training's key, so that it continues the one before."""
        group = "/".join(training.path[:3])
        run = self._init(training.key[:32], training.name, "training", group, training.settings)
        return _Run(run)

    def log_results(self, results: RunResults) -> None:
        """Log both tables to the run `board`, which is one per folder."""
        place = f"{socket.gethostname()}:{self.run.folder}"
        identity = f"board-{hashlib.sha256(place.encode()).hexdigest()[:16]}"
        run = self._init(identity, f"board of {self.run.folder.name}", "board", "board", dict(self.run.settings))
        values = values_table(cell_values(results.rows))
        run.log({"values": _table(values), "board": _table(board_table(results.board))})
        run.finish()

    def _mode(self) -> str:
        mode: str = self.options.mode or os.environ.get("WANDB_MODE") or "online"
        return mode

    def _init(self, identity: str, name: str, kind: str, group: str, settings: dict[str, Any]) -> wandb.Run:
        import wandb

        online = self._mode() == "online"
        return wandb.init(
            project=self.options.project or self.run.benchmark,
            entity=self.options.entity,
            id=identity,
            name=name[:_LONGEST],
            job_type=kind,
            group=group[:_LONGEST],
            config=settings,
            dir=self.run.folder,
            mode=self.options.mode,
            resume="allow" if online else None,  # which `wandb` ignores offline
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_meta=True,
            ),
        )


class _Run:
    """The run of a training."""

    def __init__(self, run: wandb.Run) -> None:
        self._run = run

    def log(self, epoch: int, values: dict[str, float]) -> None:
        self._run.log(values, step=epoch)  # a resumed run ignores the steps that it has

    def close(self) -> None:
        self._run.finish()


def _table(table: LoggedTable) -> wandb.Table:
    import wandb

    return wandb.Table(columns=list(table.columns), data=[list(line) for line in table.lines], allow_mixed_types=True)
