"""One step of training: a function of a network's state and of what the step is told. Knows nothing of epochs, groups, files.

It reads nothing back from the device and branches on nothing there. So the same function runs eagerly, on the CPU with numbers
and on a GPU, and is captured in a CUDA graph with tensors in the place of numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.api.interfaces import Objective
from harness.api.recipe import Recipe
from harness.networks.flat_network import FlatNetwork
from harness.telemetry.stopwatch import Stopwatch
from harness.training.augmentation import Augmenter
from harness.training.dropout import Noise, name_dropout
from harness.training.optimizers import make_optimizer


@dataclass(frozen=True)
class StepInputs:
    """What a step is told. All but the indices are numbers, or tensors () on the device: int64 keys, float64 for the others."""

    indices: Tensor  # int64 (batch,), on the device
    augmentation: int | Tensor  # the key of the epoch's augmentation
    noise: int | Tensor  # the key of the step's dropout
    rate: float | Tensor
    count: int | Tensor  # steps since the optimizer's memory was empty, this one included


class TrainState:
    """A network in training: all that its steps read and write, on one device. `network` has a gradient.

    `augmenter` holds the training images and `labels` (n,) lie beside them; `teacher`, if the objective wants one, is a network
    in evaluation mode that sees the same augmented views, or the plain images if the objective says so. `forward` is the
    network's, or a compiled form of it.
    """

    def __init__(
        self,
        network: FlatNetwork,
        augmenter: Augmenter,
        labels: Tensor,
        recipe: Recipe,
        objective: Objective,
        teacher: FlatNetwork | None = None,
    ) -> None:
        self.network, self.augmenter, self.labels, self.recipe = network, augmenter, labels, recipe
        self.objective, self.teacher = objective, teacher
        self.device = network.vector.device
        self.forward: Callable[[Tensor], Tensor] = network.module
        self.noise: Noise = name_dropout(network.module)
        self.optimizer = make_optimizer(recipe, network.trained)
        self.loss_sum = torch.zeros((), device=self.device, dtype=torch.float64)
        self.correct = torch.zeros((), device=self.device, dtype=torch.int64)

    def state(self) -> list[Tensor]:
        """Return all that a step changes, the tensors themselves."""
        counters = self.network.fixed_buffers.values()
        return [self.network.vector, *counters, *self.optimizer.memory.values(), self.loss_sum, self.correct]


def take_step(trainee: TrainState, moment: StepInputs, watch: Stopwatch) -> None:
    """Move the network by one step, and add the batch's loss and right answers to the sums."""
    recipe, network = trainee.recipe, trainee.network
    watch.turn("data")
    images = trainee.augmenter(moment.indices, moment.augmentation)
    labels = trainee.labels[moment.indices]
    watch.turn("forward/backward")
    logits, teacher_logits = _logits(trainee, images, _teacher_images(trainee, images, moment), moment.noise)
    correct = (logits.detach().argmax(1) == labels).sum()  # before the loss, which may change its arguments in place
    loss = trainee.objective.loss(logits, labels, teacher_logits=teacher_logits, label_smoothing=recipe.label_smoothing)
    gradient = network.gradient_of(loss)
    watch.turn("optimizer")
    if recipe.clip_norm is not None:
        norm = torch.linalg.vector_norm(gradient)
        gradient.mul_((recipe.clip_norm / (norm + 1e-6)).clamp(max=1.0))
    unreached = _unreached(trainee)
    trainee.optimizer.step(network.trained, gradient, moment.rate, moment.count)
    for place, value in unreached:
        place.copy_(value)
    trainee.loss_sum += loss.detach()
    trainee.correct += correct


def _unreached(trainee: TrainState) -> list[tuple[Tensor, Tensor]]:
    """Return the parameters that no gradient has reached, and their part of the optimizer's memory, each with its value.

    torch's optimizers leave a parameter without a gradient alone: no weight decay, no momentum.
    """
    vectors = [trainee.network.trained, *trainee.optimizer.memory.values()]
    places = [slot.view(vector) for slot in trainee.network.unreached for vector in vectors]
    return [(place, place.clone()) for place in places]


def _teacher_images(trainee: TrainState, images: Tensor, moment: StepInputs) -> Tensor | None:
    """Return the images that the teacher sees: a copy of the student's, which may change its own in place, or plain ones."""
    if trainee.teacher is None:
        return None
    if trainee.objective.teacher_view == "plain":
        return trainee.augmenter.plain(moment.indices)
    return images.clone()


def _logits(
    trainee: TrainState, images: Tensor, teacher_images: Tensor | None, noise: int | Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return the student's and the teacher's logits, float32 (batch, classes)."""
    trainee.noise.begin(noise)
    # Each weight is read once in a forward pass, so a cache of their bfloat16 forms gains nothing, and would outlive a capture.
    bf16 = trainee.recipe.precision == "bf16"
    with torch.autocast(trainee.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
        logits = trainee.forward(images)
        with torch.no_grad():
            teacher_logits = None if trainee.teacher is None else trainee.teacher.module(teacher_images).float()
    return logits.float(), teacher_logits
