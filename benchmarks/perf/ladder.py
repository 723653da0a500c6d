"""The rungs from a plain script on a GPU to five siblings in one compiled graph, one decision at a time.

A rung is a function that takes one step of all its members, with what it needs ready on the device. `test_ladder.py` measures
them on a CUDA device; the rungs that need none are climbed on the CPU too, to see that they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import torch
from plain_scripts import Pictures, PlainResNet20, PlainViT, train_step
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from harness import Recipe, streams
from harness.networks.flat_network import FlatNetwork
from harness.telemetry.stopwatch import Stopwatch
from harness.training.augmentation import Augmenter
from harness.training.cuda_graph import CudaGraphStep, EagerStep
from harness.training.graph_backend import CudaGraphs
from harness.training.loop import Point, Rules, Trainer
from harness_basin.cross_entropy import CrossEntropy
from harness_vision.resnet20_network import ResNet20Network
from harness_vision.vit_network import ViTNetwork

KEY = streams.key("perf", "ladder")
NORMALIZATION = ((0.5,) * 3, (0.25,) * 3)
Climb = Callable[[], object]


@dataclass(frozen=True)
class Network:
    """A network to train: ours, and the one that a script has. Batches of `batch` images of `size` × `size`."""

    ours: Callable[[], nn.Module]
    plain: Callable[[], nn.Module]
    recipe: Recipe
    size: int = 32
    batch: int = 128

    def operations(self) -> int:
        """Return the floating-point operations of one training step on one image: three forward passes' worth."""
        with FlopCounterMode(display=False) as counter:
            self.ours()(torch.zeros(1, 3, self.size, self.size))
        return 3 * counter.get_total_flops()


_VIT = {"patch": 4, "width": 256, "mlp": 512, "depth": 6, "heads": 8}
_SGD = Recipe(precision="bf16")
_ADAM = Recipe(precision="bf16", optimizer="adam", learning_rate=1e-4, weight_decay=0.0)


def resnet20(width: int, size: int = 32, classes: int = 10, batch: int = 128) -> Network:
    """Return ResNet20 of a width."""
    return Network(
        lambda: ResNet20Network(16 * width, (3, size, size), classes),
        lambda: PlainResNet20(16 * width, classes=classes),
        replace_batch(_SGD, batch),
        size,
        batch,
    )


def vit(size: int = 32, classes: int = 10, batch: int = 128, **changes: int) -> Network:
    """Return the paper's ViT, with changes."""
    sizes: dict[str, Any] = {**_VIT, **changes}
    return Network(
        lambda: ViTNetwork((3, size, size), classes, dropout=0.0, attention_dropout=0.0, **sizes),
        lambda: PlainViT(3, size, classes=classes, **sizes),
        replace_batch(_ADAM, batch),
        size,
        batch,
    )


def replace_batch(recipe: Recipe, batch: int) -> Recipe:
    """Return a recipe with another batch size."""
    return recipe.model_copy(update={"batch_size": batch})


@dataclass(frozen=True)
class Rung:
    """One way to take steps: of how many members at once, and the decision that it adds to the rung below."""

    name: str
    members: int
    make: Callable[[Network, str], Climb]
    needs_gpu: bool = False


def by_script(precision: str) -> Callable[[Network, str], Climb]:
    """Return the script's step: NCHW, its batches ready on the device, which no data loader could feed."""

    def make(network: Network, device: str) -> Climb:
        model = network.plain().to(device)
        if network.recipe.optimizer == "adam":
            optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), network.recipe.learning_rate)
        else:
            optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
        images, labels = pictures(network, device)
        batches = cycle(zip(((images.float() / 255) - 0.5).div(0.25).split(network.batch), labels.split(network.batch)))

        def step() -> None:
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                train_step(model, optimizer, *next(batches))

        return step

    return make


def by_us(members: int, how: str, precision: str = "bf16") -> Callable[[Network, str], Climb]:
    """Return our step, augmentation included: eager, captured, or compiled and captured; of one or several siblings."""

    def make(network: Network, device: str) -> Climb:
        siblings = trainers(
            replace(network, recipe=network.recipe.model_copy(update={"precision": precision})), device, members
        )
        states = [sibling.state for sibling in siblings]
        inputs = [sibling.next_inputs() for sibling in siblings]
        if how == "eager":
            step_function: Callable[[Sequence[Any]], None] = EagerStep(states, Stopwatch())
        else:
            backend = CudaGraphs(states[0].device)
            step_function = CudaGraphStep(states, inputs, Stopwatch(), backend, compiled=how == "compiled")

        def step() -> None:
            step_function([sibling.next_inputs() for sibling in siblings])
            for sibling in siblings:
                sibling.count_step()

        return step

    return make


RUNGS = [
    Rung("script, fp32", 1, by_script("fp32")),
    Rung("script, bf16 autocast", 1, by_script("bf16")),
    Rung("ours, fp32: one vector, channels-last, augmented on the device", 1, by_us(1, "eager", "fp32")),
    Rung("+ bf16, LayerNorm kept in it", 1, by_us(1, "eager")),
    Rung("+ the whole step as one graph", 1, by_us(1, "captured"), needs_gpu=True),
    Rung("+ compiled", 1, by_us(1, "compiled"), needs_gpu=True),
    Rung("five siblings as branches of one graph", 5, by_us(5, "captured"), needs_gpu=True),
    Rung("+ compiled, five", 5, by_us(5, "compiled"), needs_gpu=True),
]


def pictures(network: Network, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images uint8 (n, 3, size, size), sixteen batches, and labels, on the device."""
    count = 16 * network.batch
    numbers = torch.arange(count * 3 * network.size**2 // 8)
    images = streams.bits(KEY, numbers).view(torch.uint8).view(count, 3, network.size, network.size)
    return images.to(device), (torch.arange(count) % 10).to(device)


def trainers(network: Network, device: str, members: int) -> list[Trainer]:
    """Return siblings at the start of their training."""
    images, labels = pictures(network, "cpu")
    augmenter = Augmenter(images, network.recipe.augmentation, *NORMALIZATION, device=torch.device(device))
    made = []
    for member in range(members):
        with streams.seeded(streams.key("perf", "sibling", member)):
            flat = FlatNetwork(network.ours(), device, gradient=True)
        rules = Rules(network.recipe, CrossEntropy(), lambda step: 0.01, ("order", 0, member))
        trainer = Trainer(flat, augmenter, labels.to(device), rules)
        trainer.load(Point(0, flat.state()))
        made.append(trainer)
    return made


def loader(network: Network, workers: int) -> DataLoader:
    """Return what feeds a script: PIL images, torchvision's transforms, worker processes."""
    images, labels = pictures(network, "cpu")
    steps = [transforms.RandomCrop(network.size, 4), transforms.RandomHorizontalFlip(), transforms.ColorJitter(0.1, 0.1, 0.1)]
    steps += [transforms.ToTensor(), transforms.Normalize(*NORMALIZATION)]
    data = Pictures(images.repeat(8, 1, 1, 1), labels.repeat(8), transforms.Compose(steps))
    return DataLoader(
        data,
        network.batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
