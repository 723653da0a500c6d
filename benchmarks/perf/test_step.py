"""Compare one training step of ResNet20 at batch size 128 with a plain script's step.

Our step gathers and augments its images; the script's batch is already augmented. Each side has a process of its own, ours with
the environment of a worker. The floating-point operations per second of both are recorded. docs/performance.md has the results.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from itertools import cycle

import pytest
import torch
from plain_scripts import PlainResNet20, train_step
from side_process import SideProcess
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from harness import Recipe, streams
from harness.execution.engines.worker_process import worker_environment
from harness.networks.flat_network import FlatNetwork
from harness.telemetry.stopwatch import Stopwatch
from harness.training.augmentation import Augmenter
from harness.training.point import Point
from harness.training.step import take_step
from harness.training.trainer import Rules, Trainer
from harness_basin.cross_entropy import CrossEntropy
from harness_vision.resnet20_network import ResNet20Network

KEY = streams.key("perf", "step")
BATCH = 128
IMAGES = 1024


def random_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Return images uint8 (n, 3, 32, 32) and labels int64 (n,)."""
    images = streams.bits(KEY, torch.arange(IMAGES * 3 * 32 * 32 // 8)).view(torch.uint8).view(-1, 3, 32, 32)
    return images, torch.arange(IMAGES) % 10


def make_trainer(channels: int, precision: str, *, same: bool = True) -> Trainer:
    """Return a trainer at the start of its training. `same` is an argument of `ResNet20Network`."""
    recipe = Recipe(precision=precision, batch_size=BATCH)
    images, labels = random_images()
    augmenter = Augmenter(images, recipe.augmentation, (0.5,) * 3, (0.25,) * 3)
    with streams.seeded(KEY):
        network = FlatNetwork(ResNet20Network(channels, (3, 32, 32), 10, same=same), gradient=True)
    rules = Rules(recipe, CrossEntropy(), lambda step: 0.01, ("order", 0, 0))
    trainer = Trainer(network, augmenter, labels, rules)
    trainer.load(Point(0, network.state()))
    return trainer


def plain_copy(network: ResNet20Network) -> PlainResNet20:
    """Return the plain script's network with the weights of ours."""
    state = {plain_name(name): tensor for name, tensor in network.state_dict().items()}
    model = PlainResNet20(network.conv1.out_channels)
    model.load_state_dict(state)
    return model


def plain_name(name: str) -> str:
    """Return the name in `PlainResNet20` of a parameter of `ResNet20Network`.

    `groups.1.0.norm1.weight`, for example, is `blocks.3.norm1.norm.weight`.
    """
    if name.startswith("groups."):
        _, group, block, rest = name.split(".", maxsplit=3)
        name = f"blocks.{3 * int(group) + int(block)}.{rest}"
    name = name.replace("shortcut_conv", "shortcut.0").replace("shortcut_norm", "shortcut.1")
    parts = name.split(".")
    if parts[-2].startswith("norm") or parts[-3:-1] == ["shortcut", "1"]:
        parts.insert(-1, "norm")
    return ".".join(parts)


def matmul_rate(dtype: torch.dtype) -> float:
    """Return the rate of a large matrix product on this processor, in floating-point operations per second."""
    matrix = torch.randn(2048, 2048).to(dtype)
    seconds = []
    for _ in range(5):
        began = time.process_time()
        matrix @ matrix
        seconds.append(time.process_time() - began)
    return 2 * 2048**3 / min(seconds)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("width", [1, 4])
def test_step_against_a_plain_script(compare, width, precision):
    """The gradient equals that of the script's network to rounding; the step is at least 2 (fp32: 1.2) times as fast."""
    if precision == "bf16" and not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this processor has no bfloat16 instructions")
    check_gradient(width)
    ours = SideProcess("test_step", "our_step", width, precision, environment=worker_environment(1))
    theirs = SideProcess("test_step", "their_step", width)
    rounds = 25 if width == 1 else 9
    bar = 2.0 if precision == "bf16" else 1.2
    with contextlib.closing(ours), contextlib.closing(theirs):
        result = compare(ours, theirs, bar=bar, items=(BATCH, BATCH), rounds=rounds)
    with FlopCounterMode(display=False) as counter:
        ResNet20Network(16 * width, (3, 32, 32), 10)(torch.zeros(1, 3, 32, 32))
    operations = 3 * counter.get_total_flops()
    our_dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    compare.benchmark.extra_info.update(
        ours_share_of_peak=operations / result.ours / matmul_rate(our_dtype),
        theirs_share_of_fp32_peak=operations / result.theirs / matmul_rate(torch.float32),
    )


def our_step(width: int, precision: str) -> Callable[[], None]:
    """Return a function that takes one step of the harness."""
    trainer = make_trainer(16 * width, precision)

    def step() -> None:
        take_step(trainer.state, trainer.next_inputs(), Stopwatch())
        trainer.count_step()

    return step


def their_step(width: int) -> Callable[[], None]:
    """Return a function that takes one step of the plain script, starting from the same weights."""
    model = plain_copy(make_trainer(16 * width, "fp32", same=False).network.module)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    images, labels = random_images()
    batches = cycle(zip((images.float() / 255).split(BATCH), labels.split(BATCH)))
    return lambda: train_step(model, optimizer, *next(batches))


def check_gradient(width: int) -> None:
    """Compare our gradient on four images with that of the script's network in float64."""
    trainer = make_trainer(16 * width, "fp32", same=False)
    images = trainer.augmenter.plain(torch.arange(4))
    labels = trainer.labels[:4]
    network = trainer.network
    model = plain_copy(network.module).double()
    F.cross_entropy(model(images.double()), labels).backward()
    network.gradient_of(F.cross_entropy(network.module(images), labels))  # every parameter's .grad is a view of the result
    for parameter in network.module.parameters():
        parameter.data = parameter.grad
    error = 0.0
    norm = 0.0
    for found, expected in zip(plain_copy(network.module).parameters(), model.parameters(), strict=True):
        error += float((found.detach() - expected.grad).square().sum())
        norm += float(expected.grad.square().sum())
    assert error < 1e-6 * norm
