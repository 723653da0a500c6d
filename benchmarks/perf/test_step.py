"""One training step of ResNet20 at batch 128 against a plain script's, and the floating-point operations a second of both.

Ours takes indices and augments them; the script's batch lies ready, already augmented. Each has a process of its own, ours one
like a worker's. docs/performance.md has what was measured.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from itertools import cycle

import pytest
import torch
from apart import Apart
from plain_scripts import PlainResNet20, train_step
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from harness import Recipe, streams
from harness.execution.engines.worker_process import worker_environment
from harness.networks.flat_network import FlatNetwork
from harness.telemetry.stopwatch import Stopwatch
from harness.training.augmentation import Augmenter
from harness.training.loop import Point, Rules, Trainer
from harness.training.step import take_step
from harness_basin.cross_entropy import CrossEntropy
from harness_vision.resnet20_network import ResNet20Network

KEY = streams.key("perf", "step")
BATCH, IMAGES = 128, 1024


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Return images uint8 (n, 3, 32, 32) and labels."""
    images = streams.bits(KEY, torch.arange(IMAGES * 3 * 32 * 32 // 8)).view(torch.uint8).view(-1, 3, 32, 32)
    return images, torch.arange(IMAGES) % 10


def trainer(channels: int, precision: str, *, same: bool = True) -> Trainer:
    """Return a trainer at the start of its training."""
    recipe = Recipe(precision=precision, batch_size=BATCH)
    images, labels = pictures()
    augmenter = Augmenter(images, recipe.augmentation, (0.5,) * 3, (0.25,) * 3)
    with streams.seeded(KEY):
        network = FlatNetwork(ResNet20Network(channels, (3, 32, 32), 10, same=same), gradient=True)
    made = Trainer(network, augmenter, labels, Rules(recipe, CrossEntropy(), lambda step: 0.01, ("order", 0, 0)))
    made.load(Point(0, network.state()))
    return made


def plain(network: ResNet20Network) -> PlainResNet20:
    """Return the script's network with the weights of one of ours."""
    names = {name.replace("groups.", "blocks."): tensor for name, tensor in network.state_dict().items()}
    renamed = {}
    for name, tensor in names.items():
        group, _, rest = name.removeprefix("blocks.").partition(".")
        if name.startswith("blocks."):
            block, _, rest = rest.partition(".")
            name = f"blocks.{3 * int(group) + int(block)}.{rest}"
        name = name.replace("shortcut_conv", "shortcut.0").replace("shortcut_norm", "shortcut.1")
        parts = name.split(".")
        if parts[-2].startswith("norm") or parts[-3:-1] == ["shortcut", "1"]:
            parts.insert(-1, "norm")
        renamed[".".join(parts)] = tensor
    model = PlainResNet20(network.conv1.out_channels)
    model.load_state_dict(renamed)
    return model


def peak(dtype: torch.dtype) -> float:
    """Return the floating-point operations a second of this processor on a large matrix product."""
    matrix, seconds = torch.randn(2048, 2048).to(dtype), []
    for _ in range(5):
        began = time.process_time()
        matrix @ matrix
        seconds.append(time.process_time() - began)
    return 2 * 2048**3 / min(seconds)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("width", [1, 4])
def test_step_against_a_plain_script(duel, width, precision):
    """The script's function and its gradient to rounding, in a fraction of the time."""
    if precision == "bf16" and not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this processor has no bfloat16 instructions")
    check_gradient(width)
    ours = Apart("test_step", "our_step", width, precision, environment=worker_environment(1))
    theirs = Apart("test_step", "their_step", width)
    rounds, bar = (25 if width == 1 else 9), (2.0 if precision == "bf16" else 1.2)
    with contextlib.closing(ours), contextlib.closing(theirs):
        outcome = duel(ours, theirs, bar=bar, items=(BATCH, BATCH), rounds=rounds)
    with FlopCounterMode(display=False) as counter:
        ResNet20Network(16 * width, (3, 32, 32), 10)(torch.zeros(1, 3, 32, 32))
    operations = 3 * counter.get_total_flops()
    duel.benchmark.extra_info.update(
        ours_share_of_peak=operations / outcome.ours / peak(torch.bfloat16 if precision == "bf16" else torch.float32),
        theirs_share_of_fp32_peak=operations / outcome.theirs / peak(torch.float32),
    )


def our_step(width: int, precision: str) -> Callable[[], None]:
    """Return a step of the harness."""
    ours = trainer(16 * width, precision)

    def step() -> None:
        take_step(ours.state, ours.next_inputs(), Stopwatch())
        ours.count_step()

    return step


def their_step(width: int) -> Callable[[], None]:
    """Return a step of the script, from the same weights."""
    model = plain(trainer(16 * width, "fp32", same=False).network.module)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    images, labels = pictures()
    batches = cycle(zip((images.float() / 255).split(BATCH), labels.split(BATCH)))
    return lambda: train_step(model, optimizer, *next(batches))


def check_gradient(width: int) -> None:
    """Compare the gradient with that of the script's network in float64, on a small batch."""
    ours = trainer(16 * width, "fp32", same=False)
    images, labels = ours.augmenter.plain(torch.arange(4)), ours.labels[:4]
    model = plain(ours.network.module).double()
    F.cross_entropy(model(images.double()), labels).backward()
    ours.network.gradient_of(F.cross_entropy(ours.network.module(images), labels))  # every parameter's .grad is a view of it
    for parameter in ours.network.module.parameters():
        parameter.data = parameter.grad
    pairs = list(zip(plain(ours.network.module).parameters(), model.parameters(), strict=True))
    gap = sum(float((found.detach() - wanted.grad).square().sum()) for found, wanted in pairs)
    assert gap < 1e-6 * sum(float(wanted.grad.square().sum()) for _, wanted in pairs)
