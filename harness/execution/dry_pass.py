"""One dry pass of a setting and an objective before any of their training: data, network, loss, gradient, state.

Everything is done on throwaway networks and a few images. What would otherwise fail after hours of training fails here, and the
error names the plugin to blame and what is expected. Knows no task and no store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness import streams
from harness.api.interfaces import Objective
from harness.errors import PluginFailed, attribute_errors
from harness.execution.environment import TaskEnvironment, listed, missing_from_state
from harness.execution.plugin_calls import check_logits
from harness.networks.counters import effective_counter
from harness.networks.differences import differing_attributes, differing_constants
from harness.networks.evaluation import differ, predict_batch
from harness.networks.flat_network import FlatNetwork
from harness.networks.state_checks import state_problem
from harness.telemetry.stopwatch import Stopwatch
from harness.training.step import StepInputs, TrainState, take_step

IMAGES = 2
"""Images of a dry pass's training step."""

_STEPS = 2  # what the first step leaves behind (a graph, a cache) may break the second

_LIKE = 0.01  # of a gradient's norm; rounding makes less

_RATE = 1e-3  # of the peak learning rate: enough to change every weight, too little to diverge


@dataclass(frozen=True)
class DryPass:
    """What is tried: a setting on its device, an objective, and a network in the place of the teacher if it needs one.

    `objective_label` is how messages call the objective.
    """

    room: TaskEnvironment
    objective: Objective
    objective_label: str
    teacher: FlatNetwork | None = None
    images: int = IMAGES

    def run(self) -> None:
        """Raise `PluginFailed` with the first promise that is broken, naming the plugin that broke it.

        Where a plugin's code raises an error on a few images, it is tried on as many as a batch has: it may need them.
        """
        try:
            self._try()
        except PluginFailed as error:
            batch = self.room.recipe.batch_size
            if error.__cause__ is None or batch <= self.images:
                raise
            replace(self, images=batch)._try()

    def _try(self) -> None:
        room = self.room
        network, again, other = self._fresh("one", gradient=True), self._fresh("one"), self._fresh("two")
        if differ(network.vector, again.vector, 0.0):
            raise PluginFailed(f"{room.who}: build gives other weights each time; draw them from torch's own generator")
        self._check_evaluation(network, room.num_classes, room.who)
        self._check_whole_batch(network)
        if self.teacher is not None:
            self._check_evaluation(self.teacher, room.num_classes, f"the teacher's {room.who}")
        self._check_same_function(network, again, other)
        self._check_counters(network)
        trainee = TrainState(network, room.augmenter, room.labels, room.recipe, self.objective, self.teacher)
        network.module.train()
        self._check_training(trainee)
        self._take_steps(trainee)
        self._check_form(network, again)
        room.check_stored(network, network.state())
        self._check_backward(network)

    def _fresh(self, name: str, *, gradient: bool = False) -> FlatNetwork:
        """Return a network from an initialization of its own, after looking at its tensors."""
        module = self.room.module(streams.key("dry pass", name))
        problem = state_problem(module)
        if problem:
            raise PluginFailed(f"{self.room.who}: {problem}")
        return FlatNetwork(module, self.room.device, gradient=gradient)

    def _check_evaluation(self, network: FlatNetwork, classes: int, who: str) -> None:
        """Look at the logits of a network in evaluation mode, computed twice: they may not be random."""
        images = self.room.probe_images[: len(self._indices)]
        logits = []
        for draw in range(2):
            network.module.eval()
            with streams.seeded(draw, self.room.device), attribute_errors(who, "forward"), torch.no_grad():
                logits.append(network.module(images.clone()))
        check_logits(who, logits[0], (len(images), classes), "in evaluation mode")
        if differ(logits[0], logits[1]):
            raise PluginFailed(f"{who}: is random in evaluation mode: two passes of the same images give different logits")

    def _check_whole_batch(self, network: FlatNetwork) -> None:
        """Look at the logits of a batch of test images that is as large as the one that members are evaluated on."""
        images = next(self.room.test_images.batches())
        with attribute_errors(self.room.who, "forward"):
            logits = predict_batch(network, images)
        check_logits(self.room.who, logits, (len(images), self.room.num_classes), "in evaluation mode")

    def _check_same_function(self, network: FlatNetwork, again: FlatNetwork, other: FlatNetwork) -> None:
        """Load one network's state into another: then both must compute the same, in evaluation and in training mode.

        `again` is the network as it was built.
        """
        room = self.room
        with attribute_errors(room.who, "loading its own state"):
            other.load(network.state())
        logits, repeated = self._training_logits(network), self._training_logits(network)
        check_logits(room.who, logits, (len(self._indices), room.num_classes), "in training mode")
        if differ(logits, repeated):
            names = [*differing_constants(network.module, again.module), *differing_attributes(network.module, again.module)]
            changed = f" ({listed(names)} changes)" if names else ""
            raise PluginFailed(
                f"{room.who}: is not repeatable in training mode: two passes with torch's generator in one state give "
                f"different logits{changed}; draw random numbers with torch alone, and keep what changes in persistent buffers"
            )
        same = not differ(logits, self._training_logits(other))
        with attribute_errors(room.who, "forward"):
            expected, found = (predict_batch(either, room.probe_images) for either in (network, other))
        check_logits(room.who, expected, (len(room.probe_images), room.num_classes), "in evaluation mode")
        same &= not differ(expected, found)
        if not same or differing_constants(network.module, other.module):
            raise PluginFailed(f"{room.who}: {missing_from_state(network.module, other.module)}")

    def _training_logits(self, network: FlatNetwork) -> Tensor:
        """Return the logits of a pass in training mode; the network's state is put back."""
        before = network.state()
        network.module.train()
        with streams.seeded(0, self.room.device), attribute_errors(self.room.who, "forward"), torch.no_grad():
            logits: Tensor = network.module(self.room.augmenter.plain(self._indices))
        with attribute_errors(self.room.who, "loading its own state"):
            network.load(before)
        return logits

    def _check_counters(self, network: FlatNetwork) -> None:
        """Refuse a network that depends on a number which training counts up and no state holds."""
        name = effective_counter(network.module, lambda: self._behavior(network))
        if name:
            raise PluginFailed(
                f"{self.room.who}: it depends on '{name}', which training changes and the state dict does not hold; keep "
                "that in a persistent buffer"
            )

    def _behavior(self, network: FlatNetwork) -> list[Tensor]:
        """Return the logits in both modes and the buffers after a training-mode pass; the network's state is put back."""
        before = network.state()
        network.module.train()
        with streams.seeded(0, self.room.device), attribute_errors(self.room.who, "forward"), torch.enable_grad():
            logits: Tensor = network.module(self.room.augmenter.plain(self._indices)).detach().float()
        buffers = [named.current.clone() for named in network.buffers]
        with attribute_errors(self.room.who, "loading its own state"):
            network.load(before)
        with attribute_errors(self.room.who, "forward"):
            evaluated = predict_batch(network, self.room.probe_images)
        return [logits, evaluated, *buffers]

    def _check_form(self, network: FlatNetwork, built: FlatNetwork) -> None:
        """Refuse a network that has other tensors after a step than it was built with, or has put others in their place."""
        now, before = network.module.state_dict(), built.module.state_dict()
        for name in sorted({*now, *before}):
            if _form(now.get(name)) != _form(before.get(name)):
                raise PluginFailed(
                    f"{self.room.who}: '{name}' of its state dict is {_form(before.get(name))} when built and "
                    f"{_form(now.get(name))} after a training step; make it in build, and change it in place"
                )
        replaced = network.replaced_parameter
        if replaced:
            raise PluginFailed(
                f"{self.room.who}: parameter '{replaced}' is replaced by another tensor in forward or train, which is not "
                "trained; change it in place"
            )

    def _check_training(self, trainee: TrainState) -> None:
        """Look at the logits in training mode, in the recipe's precision, and at the loss of them."""
        room = self.room
        before = trainee.network.state()
        bf16 = trainee.recipe.precision == "bf16"
        images = room.augmenter(self._indices, 0)
        with (
            attribute_errors(room.who, "forward"),
            torch.autocast(room.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False),
        ):
            logits = trainee.forward(images)
        check_logits(room.who, logits, (len(self._indices), room.num_classes), "in training mode")
        if not logits.requires_grad:
            raise PluginFailed(f"{room.who}: gives logits without a gradient in training mode: no parameter can be trained")
        trainee.network.load(before)
        self._check_loss(logits.float())

    def _check_loss(self, logits: Tensor) -> None:
        """Look at the loss of logits in training mode, computed twice."""
        losses = [self._loss(logits) for _ in range(2)]
        loss = losses[0]
        if not bool(torch.isfinite(loss)):
            raise PluginFailed(
                f"{self.objective_label}: loss is {float(loss.detach())} on {len(self._indices)} training images"
            )
        if not loss.requires_grad:
            raise PluginFailed(f"{self.objective_label}: loss has no gradient: it does not depend on the logits")
        if differ(losses[0].detach(), losses[1].detach()):
            raise PluginFailed(
                f"{self.objective_label}: loss is not repeatable: with torch's generator in one state it is "
                f"{float(losses[0].detach()):.6g} and {float(losses[1].detach()):.6g}; draw random numbers with torch alone"
            )

    def _loss(self, logits: Tensor) -> Tensor:
        """Return the loss of a copy of logits: an objective may change its arguments in place."""
        teacher_logits = None if self.teacher is None else torch.zeros_like(logits.detach())
        smoothing = self.room.recipe.label_smoothing
        with streams.seeded(0, self.room.device):
            return self.objective.loss(
                logits.clone(), self.room.labels[self._indices], teacher_logits=teacher_logits, label_smoothing=smoothing
            )

    def _check_backward(self, network: FlatNetwork) -> None:
        """Compare gradients as training computes them with those of `backward`, which some code relies on."""
        assert network.gradient is not None
        room = self.room
        before = network.state()
        gradients = []
        for backward in (False, True):
            with streams.seeded(0, room.device), attribute_errors(room.who, "forward"):
                total = network.module(room.augmenter.plain(self._indices)).float().square().sum()
            if backward:
                network.gradient.zero_()
                with attribute_errors(room.who, "backward"):
                    total.backward()
            else:
                with attribute_errors(room.who, "torch.autograd.grad"):
                    network.gradient_of(total)
            gradients.append(network.gradient.clone())
            network.load(before)
        for slot in network.trained_slots:
            ours, theirs = (slot.view(gradient) for gradient in gradients)
            if float((ours - theirs).norm()) > _LIKE * float(theirs.norm()):
                raise PluginFailed(
                    f"{room.who}: parameter '{slot.name}' gets another gradient by torch.autograd.grad than by backward; "
                    "checkpoints need use_reentrant=False"
                )

    def _take_steps(self, trainee: TrainState) -> None:
        """Take steps as training does."""
        network = trainee.network
        trained = {slot.name for slot in network.trained_slots}
        known = {slot.name for slot in network.slots}
        fixed = {name: buffer.clone() for name, buffer in network.fixed_buffers.items()}
        rate = _RATE * trainee.recipe.learning_rate
        with streams.seeded(0, self.room.device), attribute_errors(self.room.who, "a training step"):
            for count in range(1, _STEPS + 1):
                take_step(trainee, StepInputs(self._indices, augmentation=0, noise=0, rate=rate, count=count), Stopwatch())
        for name, parameter in network.module.named_parameters():
            if name in known and parameter.requires_grad != (name in trained):
                raise PluginFailed(f"{self.room.who}: parameter '{name}' changes its requires_grad after build; set it there")
        for name, buffer in network.fixed_buffers.items():
            if buffer.is_floating_point() and not torch.equal(buffer, fixed[name]):
                raise PluginFailed(
                    f"{self.room.who}: buffer '{name}' is {buffer.dtype} and training changes it; only float32 buffers can be "
                    "interpolated"
                )
        if network.gradient is not None and not bool(torch.isfinite(network.gradient).all()):
            raise PluginFailed(f"{self.room.who}: its gradient of {self.objective_label} is not finite on training images")

    @property
    def _indices(self) -> Tensor:
        """The images of the training step: `images`, or as many as there are or as a batch holds."""
        count = min(self.images, len(self.room.train), self.room.recipe.batch_size)
        return torch.arange(count, device=self.room.device)


def _form(tensor: Tensor | None) -> str:
    """Describe a tensor's type and shape for a message."""
    return "missing" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
