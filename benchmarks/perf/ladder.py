"""The optimization ladder: from a plain training step on a GPU to five siblings in one compiled graph, one change per rung.

A rung is a way to take one training step of one or several members whose data is already on the device. `test_ladder.py`
measures all rungs on a CUDA device. `tests/test_ladder.py` runs those that need no GPU on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import torch
from plain_scripts import PilDataset, PlainResNet20, PlainViT, train_step
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
Step = Callable[[], object]


@dataclass(frozen=True)
class Network:
    """A network to train: factories of ours and of the plain script's.

    A batch is `batch` images of `size` × `size` pixels.
    """

    ours: Callable[[], nn.Module]
    plain: Callable[[], nn.Module]
    recipe: Recipe
    size: int = 32
    batch: int = 128

    def operations(self) -> int:
        """Return the floating-point operations of one training step per image: three times those of a forward pass."""
        with FlopCounterMode(display=False) as counter:
            self.ours()(torch.zeros(1, 3, self.size, self.size))
        return 3 * counter.get_total_flops()


_VIT = {"patch": 4, "width": 256, "mlp": 512, "depth": 6, "heads": 8}
_SGD = Recipe(precision="bf16")
_ADAM = Recipe(precision="bf16", optimizer="adam", learning_rate=1e-4, weight_decay=0.0)


def resnet20(width: int, size: int = 32, num_classes: int = 10, batch: int = 128) -> Network:
    """Return a ResNet20 whose first stage has 16 · `width` channels, trained with SGD in bf16."""
    return Network(
        lambda: ResNet20Network(16 * width, (3, size, size), num_classes),
        lambda: PlainResNet20(16 * width, num_classes=num_classes),
        _SGD.model_copy(update={"batch_size": batch}),
        size,
        batch,
    )


def vit(size: int = 32, num_classes: int = 10, batch: int = 128, **changes: int) -> Network:
    """Return the paper's ViT, trained with Adam in bf16. `changes` replace its sizes (width, depth, ...)."""
    sizes: dict[str, Any] = {**_VIT, **changes}
    return Network(
        lambda: ViTNetwork((3, size, size), num_classes, dropout=0.0, attention_dropout=0.0, **sizes),
        lambda: PlainViT(3, size, num_classes=num_classes, **sizes),
        _ADAM.model_copy(update={"batch_size": batch}),
        size,
        batch,
    )


@dataclass(frozen=True)
class Rung:
    """One way to take training steps, of `members` members at once. `name` says what it adds to the previous rung.

    `make(network, device)` returns a function that takes one step of all members.
    """

    name: str
    members: int
    make: Callable[[Network, str], Step]
    needs_gpu: bool = False


def plain_step(precision: str) -> Callable[[Network, str], Step]:
    """Return a factory of the script's step: NCHW layout, with batches that are already on the device.

    No data loader could deliver batches at this rate; the rung measures computation only.
    """

    def make(network: Network, device: str) -> Step:
        model = network.plain().to(device)
        if network.recipe.optimizer == "adam":
            optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), network.recipe.learning_rate)
        else:
            optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
        images, labels = random_images(network, device)
        normalized = ((images.float() / 255) - 0.5).div(0.25)
        batches = cycle(zip(normalized.split(network.batch), labels.split(network.batch)))

        def step() -> None:
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                train_step(model, optimizer, *next(batches))

        return step

    return make


def our_step(members: int, mode: str, precision: str = "bf16") -> Callable[[Network, str], Step]:
    """Return a factory of the harness's step of one or several siblings, augmentation included.

    `mode` is `eager`, `captured` or `compiled` (compiled and captured).
    """

    def make(network: Network, device: str) -> Step:
        recipe = network.recipe.model_copy(update={"precision": precision})
        siblings = trainers(replace(network, recipe=recipe), device, members)
        states = [sibling.state for sibling in siblings]
        inputs = [sibling.next_inputs() for sibling in siblings]
        if mode == "eager":
            step_function: Callable[[Sequence[Any]], None] = EagerStep(states, Stopwatch())
        else:
            backend = CudaGraphs(states[0].device)
            step_function = CudaGraphStep(states, inputs, Stopwatch(), backend, compiled=mode == "compiled")

        def step() -> None:
            step_function([sibling.next_inputs() for sibling in siblings])
            for sibling in siblings:
                sibling.count_step()

        return step

    return make


RUNGS = [
    Rung("script, fp32", 1, plain_step("fp32")),
    Rung("script, bf16 autocast", 1, plain_step("bf16")),
    Rung("ours, fp32: one vector, channels-last, augmented on the device", 1, our_step(1, "eager", "fp32")),
    Rung("+ bf16, LayerNorm included", 1, our_step(1, "eager")),
    Rung("+ the whole step as one graph", 1, our_step(1, "captured"), needs_gpu=True),
    Rung("+ compiled", 1, our_step(1, "compiled"), needs_gpu=True),
    Rung("five siblings as branches of one graph", 5, our_step(5, "captured"), needs_gpu=True),
    Rung("+ compiled, five", 5, our_step(5, "compiled"), needs_gpu=True),
]


def random_images(network: Network, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sixteen batches on the device: images uint8 (n, 3, size, size) and labels int64 (n,)."""
    count = 16 * network.batch
    counter = torch.arange(count * 3 * network.size**2 // 8)
    images = streams.bits(KEY, counter).view(torch.uint8).view(count, 3, network.size, network.size)
    labels = torch.arange(count) % 10
    return images.to(device), labels.to(device)


def trainers(network: Network, device: str, members: int) -> list[Trainer]:
    """Return the trainers of siblings, at the start of their training."""
    images, labels = random_images(network, "cpu")
    augmenter = Augmenter(images, network.recipe.augmentation, *NORMALIZATION, device=torch.device(device))
    siblings = []
    for member in range(members):
        with streams.seeded(streams.key("perf", "sibling", member)):
            flat = FlatNetwork(network.ours(), device, gradient=True)
        rules = Rules(network.recipe, CrossEntropy(), lambda step: 0.01, ("order", 0, member))
        trainer = Trainer(flat, augmenter, labels.to(device), rules)
        trainer.load(Point(0, flat.state()))
        siblings.append(trainer)
    return siblings


def loader(network: Network, workers: int) -> DataLoader:
    """Return the data loader of a plain script: PIL images, torchvision's transforms, `workers` worker processes."""
    images, labels = random_images(network, "cpu")
    transform = transforms.Compose(
        [
            transforms.RandomCrop(network.size, 4),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.1, 0.1, 0.1),
            transforms.ToTensor(),
            transforms.Normalize(*NORMALIZATION),
        ]
    )
    return DataLoader(
        PilDataset(images.repeat(8, 1, 1, 1), labels.repeat(8), transform),
        network.batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
