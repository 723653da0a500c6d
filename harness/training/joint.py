"""Trainings of several networks at once that a coupling ties. Knows nothing of files, methods or engines.

The steps are those of siblings: the coupling changes weights between them, on the device, and reads nothing back. Its random
numbers are functions of its stream and the step's number. So a joint training that is stopped after any step and continued is
the same training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from harness import streams
from harness.api.coupling import Coupling, CouplingStep
from harness.errors import TaskFailed
from harness.networks.flat_network import FlatNetwork
from harness.streams import Name
from harness.telemetry.stopwatch import Stopwatch
from harness.training.cuda_graph import StepFunction
from harness.training.joint_step import JointStep
from harness.training.loop import train_together
from harness.training.point import EpochRecord, Point
from harness.training.step import StepInputs, TakeSteps, take_each
from harness.training.stepping import OnStepping
from harness.training.trainer import Trainer

Points = Callable[[], list[Point]]
AfterJointEpoch = Callable[[EpochRecord, Points], None]
"""Receives the members' mean record of an epoch, and a function that returns a copy of the current points."""


def _ignore(record: EpochRecord, points: Points) -> None:
    pass


def _never() -> bool:
    return False


class CouplingClock:
    """Says at which step a training is, in the coupling's terms."""

    def __init__(self, trainer: Trainer, stream: Name) -> None:
        self._trainer = trainer
        self._stream = stream
        self._matrices: Tensor | None = None

    def next_step(self) -> CouplingStep:
        """Return the step that the trainer takes now: it was not counted yet."""
        trainer = self._trainer
        if self._matrices is None:
            self._matrices = matrix_mask(trainer.network)
        number = trainer.step + 1
        peak = trainer.rules.recipe.learning_rate
        key = streams.key(*self._stream, "step", number)
        return CouplingStep(number, trainer.rules.rate(trainer.step), peak, key, self._matrices)


def matrix_mask(network: FlatNetwork) -> Tensor:
    """Return 1 at the trained weights with two or more dimensions, and 0 elsewhere: (trained,), in the weights' dtype."""
    mask = torch.zeros_like(network.trained)
    for slot in network.trained_slots:
        if len(slot.shape) > 1:
            mask[slot.offset : slot.end] = 1
    return mask


class JointTraining(ABC):
    """The training of M networks at once. `trainers` take the steps: one per network, or one for all of them.

    Its points are those of the networks, and for one trainer that of the mixture, as the last one.
    """

    trainers: list[Trainer]
    coupling: Coupling

    @property
    def take_steps(self) -> TakeSteps:
        """What computes a step of the trainers; by default, each takes its own."""
        return take_each

    @abstractmethod
    def start_at(self, points: Sequence[Point]) -> list[Point]:
        """Return the points that the trainers start from, given those of the training."""

    @abstractmethod
    def around(self, step_function: StepFunction, watch: Stopwatch) -> StepFunction:
        """Return the function that takes the coupled step, given the one that takes the trainers' steps."""

    @abstractmethod
    def points(self) -> list[Point]:
        """Return copies of the current points."""

    def run(
        self,
        starts: Sequence[Point],
        until: int,
        *,
        stopping: Callable[[], bool] = _never,
        after_epoch: AfterJointEpoch = _ignore,
        watch: Stopwatch | None = None,
        on_stepping: OnStepping | None = None,
        train: Callable[..., list[Point | TaskFailed]] = train_together,
    ) -> list[Point]:
        """Train from some points to the end of epoch `until`; return the points that were reached.

        These are earlier ones if `stopping` returned True after a step. `train` trains siblings. Raise `TaskFailed` in the
        epoch in which a network diverges.
        """
        watch = watch or Stopwatch()
        epochs = _JointEpochs(len(self.trainers), lambda record: after_epoch(record, self.points))
        ends = train(
            self.trainers,
            self.start_at(starts),
            until,
            stopping=lambda: epochs.has_failed or stopping(),
            after_epoch=[epochs.receiver(index) for index in range(len(self.trainers))],
            watch=watch,
            on_stepping=on_stepping,
            around=lambda step_function: self.around(step_function, watch),
            take_steps=self.take_steps,
        )
        for index, end in enumerate(ends):
            if isinstance(end, TaskFailed):
                raise self._failure(index, end) from None
        return self.points()

    def _failure(self, index: int, error: TaskFailed) -> TaskFailed:
        """Return the error of a trainer as that of the joint training: the coupling may be its cause."""
        who = f"member {index}" if len(self.trainers) > 1 else "the mixture"
        return TaskFailed(f"{who} of a joint training {error} or weaken the coupling '{self.coupling.full_name}'")


@dataclass
class _JointEpochs:
    """Makes one record per epoch of the trainers' records. A trainer that gives none has failed."""

    trainers: int
    after_epoch: Callable[[EpochRecord], None]
    records: list[EpochRecord] = field(default_factory=list)

    @property
    def has_failed(self) -> bool:
        """Whether the records of an epoch are incomplete, after the epoch has ended."""
        return bool(self.records)

    def receiver(self, index: int) -> Callable[[EpochRecord, Any], None]:
        """Return the function that receives the records of a trainer."""

        def receive(record: EpochRecord, point: Callable[[], Point]) -> None:
            self.records.append(record)
            if len(self.records) == self.trainers:
                mean = mean_record(self.records)
                self.records = []
                self.after_epoch(mean)

        return receive


def mean_record(records: Sequence[EpochRecord]) -> EpochRecord:
    """Return the mean loss and accuracy of records of one epoch; the other fields are those of the first."""
    first = records[0]
    loss = fmean(record.loss for record in records)
    accuracy = fmean(record.accuracy for record in records)
    return EpochRecord(first.epoch, loss, accuracy, first.learning_rate, first.seconds)


class SideBySide(JointTraining):
    """M networks with a step of their own each, which the coupling changes after it."""

    def __init__(self, trainers: Sequence[Trainer], coupling: Coupling, stream: Name) -> None:
        self.trainers = list(trainers)
        self.coupling = coupling
        self._clock = CouplingClock(self.trainers[0], stream)

    def start_at(self, points: Sequence[Point]) -> list[Point]:
        """Return the points: each trainer has its own."""
        return list(points)

    def around(self, step_function: StepFunction, watch: Stopwatch) -> StepFunction:
        """Return the function that takes the networks' steps, then couples them."""
        members = [trainer.network.trained for trainer in self.trainers]

        def take(inputs: Sequence[StepInputs]) -> None:
            step_function(inputs)
            watch.turn("optimizer")
            self.coupling.after_step(members, self._clock.next_step())

        return take

    def points(self) -> list[Point]:
        """Return copies of the networks' points."""
        return [trainer.point() for trainer in self.trainers]


class OnOneBatch(SideBySide):
    """M networks that see one batch in each step, and whose loss depends on the predictions of all."""

    @property
    def take_steps(self) -> TakeSteps:
        """What computes a step by the coupling's joint loss."""
        return JointStep(self.coupling.joint_loss)
