"""The observer `tensorboard`: event files in the run's folder, which `tensorboard --logdir DIR` shows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness import ObservedRun, RunResults, leaderboard
from harness_loggers.tables import cell_values
from harness_loggers.trainings import Training, TrainingLogger

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_UNSAFE = re.compile(r"[^\w.()=,+ -]|^\.+$|[. ]$")  # in the name of a folder, on some system
_LONGEST = 50  # characters of a name; file systems allow 255 bytes


class TensorBoard(TrainingLogger):
    """Writes event files for TensorBoard to the folder `tensorboard` of the run's folder.

    Each training is a run of TensorBoard, with the curves `loss`, `accuracy` and `learning_rate` by epoch. Each cell is one,
    with its values, and the run `board` has the board as text.
    """

    name = "tensorboard"
    package = "tensorboard"

    def start(self, run: ObservedRun) -> None:
        """Choose the folder."""
        super().start(run)
        self._folder = run.folder / "tensorboard"

    def open_training(self, training: Training) -> _Scalars:
        """Return a new event file of a training. It hides what earlier files say of the epochs that come now."""
        return _Scalars(self._writer(training.path, training.first_epoch))

    def log_results(self, results: RunResults) -> None:
        """Write the values of each cell, and the board, in place of those of an earlier run."""
        for cell in cell_values(results.rows):
            with self._new_writer((cell.dataset, cell.architecture, cell.method, f"seed {cell.seed}")) as writer:
                for metric, value in cell.values.items():
                    writer.add_scalar(metric, value, 0)
        with self._new_writer(("board",)) as writer:
            writer.add_text("board", leaderboard.render(results.board, "markdown"), 0)

    def _new_writer(self, path: Sequence[str]) -> SummaryWriter:
        """Remove the earlier event files of a run of TensorBoard, and return a writer. TensorBoard never hides texts."""
        for file in self._path(path).glob("events.out.tfevents.*"):
            file.unlink()
        return self._writer(path)

    def _writer(self, path: Sequence[str], first_step: int | None = None) -> SummaryWriter:
        """Return a writer for steps from `first_step` on, which hides such steps in earlier files."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(self._path(path), purge_step=first_step)

    def _path(self, path: Sequence[str]) -> Path:
        return self._folder.joinpath(*map(folder_name, path))


class _Scalars:
    """The event file of a training."""

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    def log(self, epoch: int, values: dict[str, float]) -> None:
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, epoch)

    def close(self) -> None:
        self._writer.close()


def folder_name(label: str) -> str:
    """Return a label as the name of a folder. Labels that differ have names that differ."""
    name = _UNSAFE.sub("_", label)[:_LONGEST]
    if name == label:
        return label
    return f"{name}~{hashlib.sha256(label.encode()).hexdigest()[:6]}"
