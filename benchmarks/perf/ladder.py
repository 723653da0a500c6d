"""Training steps of the optimization ladder: a plain script's, and the harness's from eager to compiled graphs of siblings.

`ladder_rungs.py` lists the rungs, `measure_ladder.py` measures them. `tests/test_ladder.py` takes each step on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle, repeat
from typing import Any, Literal

import torch
from ladder_teacher import OpaqueNetwork
from plain_scripts import PilDataset, PlainResNet20, PlainViT, train_step
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from harness import Objective, Recipe, streams
from harness.networks.flat_network import FlatNetwork
from harness.telemetry.stopwatch import Stopwatch
from harness.training.augmentation import Augmenter
from harness.training.cuda_graph import CudaGraphStep, EagerStep, StepFunction
from harness.training.graph_backend import graph_backend
from harness.training.point import Point
from harness.training.trainer import Rules, Trainer
from harness_basin.cross_entropy import CrossEntropy
from harness_basin.distillation import Distillation
from harness_vision.resnet20_network import ResNet20Network
from harness_vision.vit_network import ViTNetwork

KEY = streams.key("perf", "ladder")
NORMALIZATION = ((0.5,) * 3, (0.25,) * 3)
BATCHES_PER_EPOCH = 64
DROPOUT = 0.2  # the paper's, of the ViT

Manner = Literal["eager", "captured", "compiled"]
"""How a step is taken: operation by operation, as one graph, or as one graph of compiled kernels."""

Teacher = Literal["", "eager", "compiled"]
"""No teacher, a teacher whose forward pass is not compiled, or one whose forward pass is."""


@dataclass(frozen=True)
class Network:
    """A network to train: factories of ours and of the plain script's.

    A batch is `batch` images of `pixels` × `pixels` pixels.
    """

    ours: Callable[[], nn.Module]
    plain: Callable[[], nn.Module]
    recipe: Recipe
    pixels: int
    num_classes: int
    batch: int

    def operations(self) -> int:
        """Return the floating-point operations of one training step per image: three times those of a forward pass."""
        with FlopCounterMode(display=False) as counter:
            self.ours()(torch.zeros(1, 3, self.pixels, self.pixels))
        return 3 * counter.get_total_flops()


@dataclass(frozen=True)
class Work:
    """What is timed: a function that processes `images` images per call, with `operations` floating-point operations in all.

    `operations` is 0 if they are not counted. `manner` says how training steps are taken; empty for other work.
    """

    call: Callable[[], object]
    images: int
    operations: float = 0.0
    manner: str = ""


def resnet20(channels: int, pixels: int = 32, num_classes: int = 10, batch: int = 128) -> Network:
    """Return a ResNet20 whose first stage has `channels` channels, trained with SGD in bf16."""
    return Network(
        lambda: ResNet20Network(channels, (3, pixels, pixels), num_classes),
        lambda: PlainResNet20(channels, num_classes=num_classes),
        Recipe(precision="bf16", batch_size=batch),
        pixels,
        num_classes,
        batch,
    )


def vit(pixels: int = 32, num_classes: int = 10, batch: int = 128, **changes: int) -> Network:
    """Return the paper's ViT with its dropout, trained with Adam in bf16. `changes` replace its sizes (width, depth, ...)."""
    sizes: dict[str, Any] = {"patch": 4, "width": 256, "mlp": 512, "depth": 6, "heads": 8, **changes}
    return Network(
        lambda: ViTNetwork((3, pixels, pixels), num_classes, dropout=DROPOUT, attention_dropout=DROPOUT, **sizes),
        lambda: PlainViT(3, pixels, num_classes=num_classes, dropout=DROPOUT, **sizes),
        Recipe(precision="bf16", batch_size=batch, optimizer="adam", learning_rate=1e-4, weight_decay=0.0),
        pixels,
        num_classes,
        batch,
    )


def script_with_loader(network: Network, device: str, workers: int) -> Work:
    """Return the script's step with batches from `loader`, PIL images in `workers` processes, in torch's default precision."""
    model, optimizer = _plain_model(network, device)
    batches = chain.from_iterable(repeat(loader(network, workers)))

    def step() -> None:
        images, labels = next(batches)
        train_step(model, optimizer, images.to(device, non_blocking=True), labels.to(device, non_blocking=True))

    return Work(step, network.batch, _operations(network, 1), "eager")


def script(network: Network, device: str, precision: str) -> Work:
    """Return the script's step: NCHW layout, with batches that are already on the device.

    No data loader could deliver batches at this rate; the step measures computation only.
    """
    model, optimizer = _plain_model(network, device)
    images, labels = random_images(network, device)
    normalized = ((images.float() / 255) - 0.5).div(0.25)
    batches = cycle(zip(normalized.split(network.batch), labels.split(network.batch)))

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            train_step(model, optimizer, *next(batches))

    return Work(step, network.batch, _operations(network, 1), "eager")


def _plain_model(network: Network, device: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = network.plain().to(device)
    if network.recipe.optimizer == "adam":
        return model, torch.optim.Adam(model.parameters(), network.recipe.learning_rate)
    return model, torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)


def ours(network: Network, device: str, members: int, manner: Manner, precision: str = "bf16", teacher: Teacher = "") -> Work:
    """Return the harness's step of one or several siblings, augmentation included. Without a GPU it is eager.

    With a teacher, each sibling is distilled from a network of its own.
    """
    recipe = network.recipe.model_copy(update={"precision": precision})
    siblings = trainers(replace(network, recipe=recipe), device, members, teacher)
    step_function = step_of(siblings, manner)

    def step() -> None:
        step_function([sibling.next_inputs() for sibling in siblings])
        for sibling in siblings:
            sibling.count_step()

    operations = _operations(network, members) * (4 / 3 if teacher else 1)
    found = "eager" if isinstance(step_function, EagerStep) else manner
    return Work(step, members * network.batch, operations, found)


def step_of(siblings: Sequence[Trainer], manner: Manner) -> StepFunction:
    """Return the step function of siblings; the eager one if their device has no graphs."""
    states = [sibling.state for sibling in siblings]
    backend = graph_backend(states[0].device)
    if manner == "eager" or backend is None:
        return EagerStep(states, Stopwatch())
    inputs = [sibling.next_inputs() for sibling in siblings]
    return CudaGraphStep(states, inputs, Stopwatch(), backend, compiled=manner == "compiled")


def _operations(network: Network, members: int) -> float:
    return float(members * network.batch * network.operations())


def random_images(network: Network, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an epoch's images on the device: images uint8 (n, 3, pixels, pixels) and labels int64 (n,)."""
    count = BATCHES_PER_EPOCH * network.batch
    counter = torch.arange(count * 3 * network.pixels**2 // 8)
    images = streams.bits(KEY, counter).view(torch.uint8).view(count, 3, network.pixels, network.pixels)
    labels = torch.arange(count) % 10
    return images.to(device), labels.to(device)


def trainers(network: Network, device: str, members: int, teacher: Teacher = "", rate: float = 0.01) -> list[Trainer]:
    """Return the trainers of siblings, at the start of their training with a constant learning rate."""
    images, labels = random_images(network, "cpu")
    augmenter = Augmenter(images, network.recipe.augmentation, *NORMALIZATION, device=torch.device(device))
    objective: Objective = Distillation() if teacher else CrossEntropy()
    siblings = []
    for member in range(members):
        flat = _flat_network(network, device, f"sibling {member}", gradient=True)
        own_teacher = _teacher(network, device, member, teacher)
        rules = Rules(network.recipe, objective, lambda step: rate, ("order", 0, member))
        trainer = Trainer(flat, augmenter, labels.to(device), rules, own_teacher)
        trainer.load(Point(0, flat.state()))
        siblings.append(trainer)
    return siblings


def _flat_network(network: Network, device: str, stream: str, *, gradient: bool) -> FlatNetwork:
    with streams.seeded(streams.key("perf", stream)):
        return FlatNetwork(network.ours(), device, gradient=gradient)


def _teacher(network: Network, device: str, member: int, kind: Teacher) -> FlatNetwork | None:
    if not kind:
        return None
    teacher = _flat_network(network, device, f"teacher {member}", gradient=False)
    teacher.module.eval()
    if kind == "eager":  # otherwise the step compiles it with its student
        teacher.module = OpaqueNetwork(teacher.module, network.num_classes)
    return teacher


def loader(network: Network, workers: int) -> DataLoader:
    """Return the data loader of a plain script: PIL images, torchvision's transforms, `workers` worker processes."""
    images, labels = random_images(network, "cpu")
    transform = transforms.Compose(
        [
            transforms.RandomCrop(network.pixels, 4),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.1, 0.1, 0.1),
            transforms.ToTensor(),
            transforms.Normalize(*NORMALIZATION),
        ]
    )
    return DataLoader(
        PilDataset(images.repeat(4, 1, 1, 1), labels.repeat(4), transform),
        network.batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
