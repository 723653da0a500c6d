"""Checks of a CUDA device that need the paper's sizes, many replays, or a process of their own.

    python benchmarks/perf/gpu_checks.py smoke      # warnings are errors; step times, and a profile of one eager step
    python benchmarks/perf/gpu_checks.py replays    # siblings in one graph against each alone, over many replays
    python benchmarks/perf/gpu_checks.py poisoned   # captures that fail leave the process as it was

A check that fails raises an exception. `--tiny` rehearses the first two on the CPU.
"""

from __future__ import annotations

import argparse
import gc
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from ladder import Manner, Network, ours, resnet20, step_of, trainers
from ladder_rungs import FULL, TINY, Sizes
from ladder_timing import Timing, machine, measure
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from harness.networks.evaluation import full_precision
from harness.training.graph_backend import CudaGraphs, capture, verify_after

MAX_DISTANCE = 0.01
"""How far siblings in one graph may end from where each ends alone, beyond ten times what two equal runs differ."""


def smoke(sizes: Sizes, tiny: bool) -> None:
    """Profile one eager step; time siblings in one graph, then compiled, and check that they were captured and compiled."""
    warnings.simplefilter("error")
    warnings.filterwarnings("default", module=r"torch(\.|$)")  # the compiler warns of itself
    network = sizes.resnet20(sizes.pixels)
    print(machine(sizes.device))
    profile_eager_step(network, sizes.device)
    timing = Timing(blocks=3, calls=2 if tiny else 200, warm_up=3)
    manners: tuple[Manner, ...] = ("captured", "compiled")
    for manner in manners:
        found = measure(partial(ours, network, sizes.device, sizes.members, manner), timing, sizes.device)
        print(f"{sizes.members} siblings, {found.manner}: {found.to_json()}", flush=True)
        if sizes.device == "cuda" and found.manner != manner:
            raise RuntimeError(f"the steps of {sizes.members} siblings are {found.manner}; expected {manner}")


def profile_eager_step(network: Network, device: str) -> None:
    """Print where the time of one eager step goes, by kernel."""
    work = ours(network, device, 1, "eager")
    for _ in range(3):
        work.call()
    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
        torch.cuda.synchronize()
    with profile(activities=activities) as found:
        work.call()
    column = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    print(found.key_averages().table(sort_by=column, row_limit=40, max_name_column_width=80), flush=True)


def replays(sizes: Sizes, tiny: bool) -> None:
    """Train siblings in one graph, twice, and each alone, in float32; raise if they end too far apart."""
    network = sizes.resnet20(sizes.pixels) if tiny else narrow(sizes)
    steps = 5 if tiny else 500
    with full_precision():
        start, together = outcomes(network, sizes, steps, alone=False)
        _, again = outcomes(network, sizes, steps, alone=False)
        _, alone = outcomes(network, sizes, steps, alone=True)
    noise = distance(start, together, again)
    found = distance(start, together, alone)
    print(f"{steps} steps of {sizes.members} siblings: together against again {noise:.2e}, against alone {found:.2e}")
    if not found <= 10 * noise + MAX_DISTANCE:
        raise RuntimeError(
            f"siblings in one graph end {found:.2e} from where they end alone; two equal runs differ by {noise:.2e}"
        )


def narrow(sizes: Sizes) -> Network:
    """Return a ResNet20 of a quarter of the width: its kernels are small, so that those of siblings overlap the most."""
    return resnet20(sizes.channels // 4, sizes.pixels, 10, sizes.batch)


def outcomes(network: Network, sizes: Sizes, steps: int, *, alone: bool) -> tuple[Tensor, Tensor]:
    """Return the siblings' weights before and after training, both (members, size), on the CPU."""
    network = fp32(network)
    siblings = trainers(network, sizes.device, sizes.members, rate=1e-3)
    start = torch.stack([sibling.network.vector.cpu() for sibling in siblings])
    groups = [[sibling] for sibling in siblings] if alone else [siblings]
    for group in groups:
        step = step_of(group, "captured")
        for _ in range(steps):
            step([sibling.next_inputs() for sibling in group])
            for sibling in group:
                sibling.count_step()
    return start, torch.stack([sibling.network.vector.cpu() for sibling in siblings])


def fp32(network: Network) -> Network:
    """Return the network with a recipe in float32."""
    return replace(network, recipe=network.recipe.model_copy(update={"precision": "fp32"}))


def distance(start: Tensor, one: Tensor, other: Tensor) -> float:
    """Return how far two outcomes are apart, as a share of the way that was trained; the largest of the siblings'."""
    apart = torch.linalg.vector_norm(one - other, dim=1)
    trained = torch.linalg.vector_norm(one - start, dim=1)
    return float((apart / trained).max())


def poisoned(sizes: Sizes, tiny: bool) -> None:
    """Let captures fail in a forked stream and by a lack of memory; check that the process works as before."""
    if not torch.cuda.is_available():
        print("skipped: there is no CUDA device")
        return
    check_failed_fork()
    check_lack_of_memory(sizes)


def check_failed_fork() -> None:
    """Raise unless a capture that fails with unjoined streams gives back stream, memory and generator."""
    graphs = CudaGraphs(torch.device("cuda", 0))
    caller_stream = torch.cuda.current_stream()
    numbers = torch.zeros(8, device="cuda")
    reserved = reserved_megabytes()

    def fork_and_fail() -> None:
        for _ in range(5):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                torch.empty(64 * 2**20, device="cuda").fill_(1)
        raise torch.OutOfMemoryError("on purpose")

    def add_one() -> None:
        numbers.add_(1)

    expect_out_of_memory(lambda: capture(graphs, fork_and_fail))
    verify_after(graphs, "out of memory")
    check(torch.cuda.current_stream() == caller_stream, "the capture's stream is still the current one")
    check(bool(torch.rand(8, device="cuda").isfinite().all()), "the generator does not draw")
    check(torch.nn.functional.dropout(numbers + 1, 0.5).shape == (8,), "dropout does not draw")
    check(reserved_megabytes() <= reserved + 64, f"the capture's memory is not released: {reserved_megabytes():.0f} MiB")
    capture(graphs, add_one).replay()
    check(numbers.tolist() == [1.0] * 8, "another capture does not work")
    print("a capture that failed with unjoined streams left the process as it was", flush=True)


def check_lack_of_memory(sizes: Sizes) -> None:
    """Raise unless siblings that do not fit raise an out-of-memory error, after which one of them trains."""
    network = sizes.resnet20(sizes.pixels)
    before = reserved_megabytes()
    work = ours(network, "cuda", sizes.members, "captured")
    needed = torch.cuda.memory_reserved() / 2**20 - before
    del work
    reserved_megabytes()
    free = torch.cuda.mem_get_info()[0] / 2**20
    filling = torch.empty(int((free - 0.75 * needed) * 2**20), dtype=torch.uint8, device="cuda")
    expect_out_of_memory(lambda: ours(network, "cuda", sizes.members, "captured"))
    alone = ours(network, "cuda", 1, "captured")
    alone.call()
    torch.cuda.synchronize()
    check(alone.manner == "captured", f"one network is {alone.manner} beside {filling.numel() / 2**30:.1f} GiB")
    print(f"{sizes.members} siblings need {needed:.0f} MiB; with three quarters of it, one trains", flush=True)


def expect_out_of_memory(function: Callable[[], object]) -> None:
    """Call a function that must run out of memory."""
    try:
        function()
    except torch.OutOfMemoryError:
        return
    raise RuntimeError("expected an out-of-memory error")


def reserved_megabytes() -> float:
    """Return the memory that torch keeps after it has given back what it can."""
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved() / 2**20


def check(holds: bool, otherwise: str) -> None:
    """Raise with the text if a condition does not hold."""
    if not holds:
        raise RuntimeError(otherwise)


CHECKS = {"smoke": smoke, "replays": replays, "poisoned": poisoned}


def main(arguments: Sequence[str]) -> None:
    """Run one check."""
    parser = argparse.ArgumentParser(description="Check a CUDA device.")
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--tiny", action="store_true", help="rehearse on the CPU with tiny networks")
    options = parser.parse_args(arguments)
    CHECKS[options.check](TINY if options.tiny else FULL, options.tiny)
    print(f"{options.check}: passed")


if __name__ == "__main__":
    main(sys.argv[1:])
