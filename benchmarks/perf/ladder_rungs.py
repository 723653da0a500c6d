"""The rungs of the optimization ladder, by group. A group runs in a process of its own.

A new rung is one line in the function of its group.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from ladder import Network, Work, ours, resnet20, script, script_with_loader, vit
from ladder_evaluation import aligned_pair, evaluated_point
from ladder_timing import Measurement, Timing, measure
from ladder_workers import measure_together

from harness.networks.evaluation import DEFAULT_EVALUATION, EvaluationSetting
from harness.networks.flat_network import Layout
from harness_basin.matching.coordinate_descent.descent import Precision

EAGER = "+ bf16, LayerNorm included"
"""The rung that set-up pays off against: the harness's eager step."""

_LAYOUTS: dict[str, Layout] = {"NHWC": "channels_last", "NCHW": "contiguous"}
_PRECISIONS: tuple[Precision, ...] = ("float64", "float32")


@dataclass(frozen=True)
class Sizes:
    """How large everything is that the ladder measures."""

    device: str
    channels: int
    pixels: int
    large_pixels: int
    batch: int
    vit_width: int
    vit_depth: int
    members: int
    test_images: int
    matrix: int
    loader_workers: int
    steps: Timing
    points: Timing
    alignments: Timing

    def resnet20(self, pixels: int, num_classes: int = 10) -> Network:
        """Return the ResNet20 of these sizes, for images of `pixels` × `pixels` pixels."""
        return resnet20(self.channels, pixels, num_classes, self.batch)

    def vit(self, pixels: int, num_classes: int = 10) -> Network:
        """Return the ViT of these sizes, for images of `pixels` × `pixels` pixels."""
        return vit(pixels, num_classes, self.batch, width=self.vit_width, mlp=2 * self.vit_width, depth=self.vit_depth)


FULL = Sizes(
    device="cuda",
    channels=64,
    pixels=32,
    large_pixels=64,
    batch=128,
    vit_width=256,
    vit_depth=6,
    members=5,
    test_images=10_000,
    matrix=8192,
    loader_workers=len(os.sched_getaffinity(0)),
    steps=Timing(blocks=10, calls=50, warm_up=20),
    points=Timing(blocks=5, calls=3, warm_up=2),
    alignments=Timing(blocks=3, calls=1, warm_up=1),
)
"""The paper's networks on a GPU."""

TINY = Sizes(
    device="cpu",
    channels=4,
    pixels=8,
    large_pixels=16,
    batch=4,
    vit_width=16,
    vit_depth=1,
    members=2,
    test_images=40,
    matrix=64,
    loader_workers=0,
    steps=Timing(blocks=2, calls=2, warm_up=1),
    points=Timing(blocks=2, calls=1, warm_up=1),
    alignments=Timing(blocks=1, calls=1, warm_up=0),
)
"""A rehearsal on the CPU, in seconds. Steps that need a GPU are eager."""


@dataclass(frozen=True)
class Rung:
    """One thing to measure. `name` says what it adds to the rung before it; it is unique within its group.

    `baseline` is the name of the rung of the group whose steps it saves time over, empty if its set-up need not pay off.
    """

    name: str
    measure: Callable[[], Measurement]
    baseline: str = ""


def rungs_of(group: str, sizes: Sizes) -> list[Rung]:
    """Return the rungs of a group, in order."""
    return GROUPS[group](sizes)


def _step(name: str, make: Callable[[], Work], sizes: Sizes, baseline: str = "") -> Rung:
    return Rung(name, partial(measure, make, sizes.steps, sizes.device), baseline)


def _scripts(network: Network, sizes: Sizes) -> list[Rung]:
    return [
        _step("script, fp32", partial(script, network, sizes.device, "fp32"), sizes),
        _step("script, bf16 autocast", partial(script, network, sizes.device, "bf16"), sizes),
    ]


def _steps(network: Network, sizes: Sizes) -> list[Rung]:
    """Return the rungs from the harness's eager step to siblings in one compiled graph."""
    step = partial(ours, network, sizes.device)
    several = sizes.members
    return [
        _step("ours, fp32: one vector, channels-last, augmented on the device", partial(step, 1, "eager", "fp32"), sizes),
        _step(EAGER, partial(step, 1, "eager"), sizes),
        _step("+ the whole step as one graph", partial(step, 1, "captured"), sizes, EAGER),
        _step("+ compiled", partial(step, 1, "compiled"), sizes, EAGER),
        _step("siblings as branches of one graph", partial(step, several, "captured"), sizes, EAGER),
        _step("+ compiled, siblings", partial(step, several, "compiled"), sizes, EAGER),
    ]


def _resnet20(sizes: Sizes) -> list[Rung]:
    network = sizes.resnet20(sizes.pixels)
    fed_by_loader = partial(script_with_loader, network, sizes.device, sizes.loader_workers)
    with_loader = _step("script, PIL images from a data loader", fed_by_loader, sizes)
    return [with_loader, *_scripts(network, sizes), *_steps(network, sizes)]


def _layer_norm(sizes: Sizes) -> list[Rung]:
    """Return the rungs that are not compiled, without and with the fused LayerNorm; compiled steps do not use it."""
    network = sizes.resnet20(sizes.pixels)
    step = partial(ours, network, sizes.device)
    point = partial(evaluated_point, network, sizes.device, sizes.test_images, DEFAULT_EVALUATION)
    rungs = []
    for name, plain in (("PyTorch's LayerNorm", "1"), ("fused LayerNorm", "")):
        own = [
            _step(f"eager, {name}", partial(step, 1, "eager"), sizes),
            _step(f"one graph, {name}", partial(step, 1, "captured"), sizes),
            _step(f"siblings in a graph, {name}", partial(step, sizes.members, "captured"), sizes),
            Rung(f"a point, {name}", partial(measure, point, sizes.points, sizes.device)),
        ]
        for rung in own:
            rungs.append(replace(rung, measure=partial(_with_variable, "HARNESS_PLAIN_KERNELS", plain, rung.measure)))
    return rungs


def _with_variable(name: str, value: str, measure_rung: Callable[[], Measurement]) -> Measurement:
    """Measure with an environment variable set, then restore the variable."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        return measure_rung()
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _vit(sizes: Sizes) -> list[Rung]:
    network = sizes.vit(sizes.pixels)
    return [*_scripts(network, sizes), *_steps(network, sizes)]


def _distilled(sizes: Sizes) -> list[Rung]:
    """Return the rungs of distilled siblings, each with a teacher of its own."""
    step = partial(ours, sizes.resnet20(sizes.pixels), sizes.device, sizes.members)
    return [
        _step(EAGER, partial(step, "eager", teacher="eager"), sizes),
        _step("siblings as branches of one graph", partial(step, "captured", teacher="eager"), sizes, EAGER),
        _step("+ compiled, teachers not", partial(step, "compiled", teacher="eager"), sizes, EAGER),
        _step("+ teachers compiled", partial(step, "compiled", teacher="compiled"), sizes, EAGER),
    ]


def _evaluation(sizes: Sizes) -> list[Rung]:
    """Return the rungs of one evaluated point, float32 without TF32: two layouts, with and without autotuned convolutions."""
    rungs = []
    for name, layout in _LAYOUTS.items():
        for autotune in (False, True):
            setting = EvaluationSetting(layout, autotune)
            make = partial(evaluated_point, sizes.resnet20(sizes.pixels), sizes.device, sizes.test_images, setting)
            suffix = "autotuned" if autotune else "not autotuned"
            rungs.append(Rung(f"a point, {name}, {suffix}", partial(measure, make, sizes.points, sizes.device)))
    return rungs


def _alignment(sizes: Sizes) -> list[Rung]:
    rungs = []
    for where, device in (("host", "cpu"), ("device", sizes.device)):
        for precision in _PRECISIONS:
            make = partial(aligned_pair, sizes.resnet20(sizes.pixels), device, precision)
            rungs.append(Rung(f"a pair, {where}, {precision}", partial(measure, make, sizes.alignments, sizes.device)))
    return rungs


def siblings_in_a_graph(sizes: Sizes) -> Work:
    """Return the step of siblings as branches of one graph."""
    return ours(sizes.resnet20(sizes.pixels), sizes.device, sizes.members, "captured")


def _workers(sizes: Sizes) -> list[Rung]:
    make = partial(siblings_in_a_graph, sizes)
    together = partial(measure_together, make, 2, sizes.steps, sizes.device)
    return [
        _step("one process, siblings as branches of one graph", make, sizes),
        Rung("two processes, each with siblings as branches of one graph", together),
    ]


GROUPS: dict[str, Callable[[Sizes], list[Rung]]] = {
    "resnet20": _resnet20,
    "layer-norm": _layer_norm,
    "distilled": _distilled,
    "evaluation": _evaluation,
    "vit": _vit,
    "workers": _workers,
    "alignment": _alignment,
    "resnet20-large": lambda sizes: _steps(sizes.resnet20(sizes.large_pixels, 200), sizes),
    "vit-large": lambda sizes: _steps(sizes.vit(sizes.large_pixels, 200), sizes),
}
"""The groups of rungs, in the order in which they are measured: ResNet20 and ViT at 32 pixels, at 64 pixels last."""
