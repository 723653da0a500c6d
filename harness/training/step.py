"""One training step: a function of a network's state and of the step's inputs. Knows nothing of epochs, groups or files.

It reads nothing back from the device and branches on no value there. So the same function runs eagerly, with numbers as inputs,
and is captured in a CUDA graph, with tensors instead of the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.api.interfaces import Objective
from harness.api.recipe import Recipe
from harness.networks.flat_network import FlatNetwork
from harness.telemetry.stopwatch import Stopwatch
from harness.training.augmentation import Augmenter
from harness.training.compiler import Forward
from harness.training.dropout import Noise, name_dropout
from harness.training.named_draws import Draws
from harness.training.optimizers import make_optimizer


@dataclass(frozen=True)
class StepInputs:
    """The inputs of one step.

    All but the indices are numbers, or tensors () on the device: int64 for the keys, float64 for the others.
    """

    indices: Tensor  # int64 (batch,), on the device
    augmentation: int | Tensor  # the key of the epoch's augmentation
    noise: int | Tensor  # the key of the random numbers that the network draws in the step
    rate: float | Tensor  # the learning rate
    count: int | Tensor  # steps since the optimizer's memory was empty, this one included


class TrainState:
    """A network in training: everything that a step reads and writes, on one device.

    `network` has a gradient. `augmenter` holds the training images and `labels`, int64 (n,), their classes. `teacher`, if the
    objective needs one, is a network in evaluation mode; it sees the student's augmented images, or the plain ones if the
    objective's `teacher_view` is "plain". `forward` and `teacher_forward` are the networks' forward passes, or compiled forms.
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
        self.network = network
        self.augmenter = augmenter
        self.labels = labels
        self.recipe = recipe
        self.objective = objective
        self.teacher = teacher
        self.device = network.vector.device
        self.noise: Noise = name_dropout(network.module)
        self.draws = Draws(self.noise)
        self.use_plain_forwards()
        self.optimizer = make_optimizer(recipe, network.trained)
        self.loss_sum = torch.zeros((), device=self.device, dtype=torch.float64)
        self.correct = torch.zeros((), device=self.device, dtype=torch.int64)

    def use_plain_forwards(self) -> None:
        """Make the forward passes those of the modules."""
        self.forward: Forward = self.network.module
        self.teacher_forward: Forward | None = None
        if self.teacher is not None:
            self.teacher_forward = self.teacher.module

    def tensors(self) -> list[Tensor]:
        """Return the tensors that a step changes, not copies; the network's vector is the first, the two sums are the last."""
        fixed_buffers = self.network.fixed_buffers.values()
        return [self.network.vector, *fixed_buffers, *self.optimizer.memory.values(), self.loss_sum, self.correct]


@dataclass(frozen=True)
class ForwardPass:
    """A network's forward pass: its logits, float32 (batch, classes), the loss () of `scored`, and the correct predictions ().

    `scored` are the logits, or with `cut` a copy of them that the gradient does not leave.
    """

    logits: Tensor
    scored: Tensor
    loss: Tensor
    correct: Tensor


ForEach = Callable[[Callable[[int], None]], None]
"""Does something for each network of a step, given its index."""
TakeSteps = Callable[[Sequence[TrainState], Sequence[StepInputs], ForEach, Stopwatch], None]
"""Takes a step of several networks, each with its inputs. Does by the third argument what is done for each of them."""


def take_each(states: Sequence[TrainState], inputs: Sequence[StepInputs], for_each: ForEach, watch: Stopwatch) -> None:
    """Take a step of each network, independently of the others."""
    for_each(lambda index: take_step(states[index], inputs[index], watch))


def take_step(state: TrainState, inputs: StepInputs, watch: Stopwatch) -> None:
    """Train the network on one batch, and add the batch's loss and number of correct predictions to the sums."""
    watch.turn("data")
    images, labels = next_batch(state, inputs)
    watch.turn("forward/backward")
    forward = forward_pass(state, images, labels, inputs)
    with state.draws.backward_checked():
        state.network.gradient_of(forward.loss)
    watch.turn("optimizer")
    descend(state, forward, inputs)


def next_batch(state: TrainState, inputs: StepInputs) -> tuple[Tensor, Tensor]:
    """Return the step's augmented images and their labels, int64 (batch,)."""
    return state.augmenter(inputs.indices, inputs.augmentation), state.labels[inputs.indices]


def forward_pass(state: TrainState, images: Tensor, labels: Tensor, inputs: StepInputs, *, cut: bool = False) -> ForwardPass:
    """Predict a batch, and compare the predictions with the labels. The network may change the images in place."""
    teacher_images = _teacher_images(state, images, inputs)
    state.noise.begin(inputs.noise)
    with state.draws.named():
        logits, teacher_logits = _logits(state, images, teacher_images)
        scored = logits
        if cut:
            scored = logits.detach().requires_grad_()
        correct = (logits.detach().argmax(1) == labels).sum()  # before the loss, which may change its arguments in place
        smoothing = state.recipe.label_smoothing
        argument = scored.clone() if cut else scored  # a leaf of a gradient must not be changed
        loss = state.objective.loss(argument, labels, teacher_logits=teacher_logits, label_smoothing=smoothing)
    state.noise.end()
    return ForwardPass(logits, scored, loss, correct)


def descend(state: TrainState, forward: ForwardPass, inputs: StepInputs) -> None:
    """Move the network by the gradient that it has, and add to the sums."""
    recipe, network, gradient = state.recipe, state.network, state.network.gradient
    assert gradient is not None
    if recipe.clip_norm is not None:
        norm = torch.linalg.vector_norm(gradient)
        gradient.mul_((recipe.clip_norm / (norm + 1e-6)).clamp(max=1.0))
    unreached = _unreached(state)
    state.optimizer.step(network.trained, gradient, inputs.rate, inputs.count)
    for view, value in unreached:
        view.copy_(value)
    state.loss_sum += forward.loss.detach()
    state.correct += forward.correct


def _unreached(state: TrainState) -> list[tuple[Tensor, Tensor]]:
    """Return views of the parameters that no gradient has reached, and of their optimizer memory, each with its value.

    torch's optimizers skip a parameter without a gradient: no weight decay, no momentum.
    """
    if not state.network.unreached:
        return []
    vectors = [state.network.trained, *state.optimizer.memory.values()]
    views = [slot.view(vector) for slot in state.network.unreached for vector in vectors]
    return [(view, view.clone()) for view in views]


def _teacher_images(state: TrainState, images: Tensor, inputs: StepInputs) -> Tensor | None:
    """Return the teacher's images: a copy of the student's, since a network may change its input in place, or plain ones."""
    if state.teacher is None:
        return None
    if state.objective.teacher_view == "plain":
        return state.augmenter.plain(inputs.indices)
    return images.clone()


def _logits(state: TrainState, images: Tensor, teacher_images: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the student's and the teacher's logits, float32 (batch, classes)."""
    teacher_logits = None
    # A forward pass reads each weight once, so a cache of bfloat16 weights gains nothing, and it would outlive a capture.
    bf16 = state.recipe.precision == "bf16"
    with torch.autocast(state.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
        logits = state.forward(images)
        if state.teacher_forward is not None:
            assert teacher_images is not None
            with torch.no_grad():
                teacher_logits = state.teacher_forward(teacher_images).float()
    return logits.float(), teacher_logits
