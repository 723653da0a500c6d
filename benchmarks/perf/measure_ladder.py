"""Measure a group of rungs of the optimization ladder, and write each result to a file of JSON lines as soon as it is known.

    python benchmarks/perf/measure_ladder.py resnet20 --to ladder.jsonl --limit 240

A rung that fails or runs out of memory is a line with its reason, and the others go on. A rung that has a line is not measured
again, so the same command continues after an interruption. The exit code is 75 if the limit was reached before the last rung,
70 if the device does not work any more in this process.
`benchmarks/gpu.py` runs the groups, each in a process of its own. docs/performance.md has predictions and results.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path
from typing import Any

import torch
from json_lines import Line, append_line, read_lines
from ladder_rungs import FULL, GROUPS, TINY, Rung, Sizes, rungs_of
from ladder_timing import Measurement, machine, peak_operations

TIME_IS_OVER = 75
DEVICE_IS_LOST = 70
_MAX_ATTEMPTS = 2


class Ladder:
    """The results of one group in a file."""

    def __init__(self, path: Path, group: str, sizes: Sizes) -> None:
        self._path = path
        self._group = group
        self._sizes = sizes
        self._peak = peak_operations(sizes.matrix, sizes.device)

    def is_due(self, rung: Rung) -> bool:
        """Return whether a rung has no result. One during which its process was ended twice gets a line that says so."""
        attempts = 0
        for line in self._lines(rung.name):
            if line["status"] != "began":
                return False
            attempts += 1
        if attempts < _MAX_ATTEMPTS:
            return True
        self._write(rung, "failed", reason=f"its process was ended {attempts} times")
        return False

    def measure(self, rung: Rung) -> None:
        """Measure a rung and write its line."""
        self._write(rung, "began")
        began = time.perf_counter()
        try:
            measurement = rung.measure()
        except Exception as error:  # a compiler, a driver or a lack of memory: the other rungs go on
            seconds = round(time.perf_counter() - began, 1)
            self._write(rung, "failed", reason=describe(error), seconds=seconds, machine=machine(self._sizes.device))
            return
        self._write(rung, "measured", **self._facts(rung, measurement))

    def _facts(self, rung: Rung, measurement: Measurement) -> dict[str, Any]:
        return {
            **measurement.to_json(),
            "share_of_peak": measurement.operations_per_second / self._peak,
            "peak_operations_per_second": self._peak,
            "steps_until_setup_has_paid": self._steps_until_paid(rung, measurement),
            "machine": machine(self._sizes.device),
        }

    def _steps_until_paid(self, rung: Rung, measurement: Measurement) -> float | None:
        """Return after how many steps the set-up has saved its own time, against the baseline; None if it never does."""
        for line in self._lines(rung.baseline):
            if line["status"] != "measured":
                continue
            setup = measurement.setup_seconds - line["setup_seconds"]
            images = measurement.images_per_second * measurement.milliseconds / 1000
            saved = images / line["images_per_second"] - measurement.milliseconds / 1000
            return max(setup, 0.0) / saved if saved > 0 else None
        return None

    def _lines(self, name: str) -> list[Line]:
        """Return the lines of a rung, without those before the group was to be measured again."""
        lines = []
        for line in read_lines(self._path):
            if line["group"] != self._group:
                continue
            if line["status"] == "again":
                lines.clear()
            elif line["rung"] == name:
                lines.append(line)
        return lines

    def _write(self, rung: Rung, status: str, **facts: Any) -> None:
        append_line(self._path, {"group": self._group, "rung": rung.name, "status": status, **facts})
        rate = f"{facts['images_per_second']:,.0f} images/s" if status == "measured" else facts.get("reason", "")
        print(f"{self._group}: {rung.name}: {status} {rate}".rstrip(), flush=True)


def describe(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    message = lines[0] if lines else ""
    return f"{type(error).__name__}: {message}"[:500]


def release(device: str) -> None:
    """Free the memory of a rung, and forget its compiled kernels: torch compiles a few variants of a function only."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def is_lost(device: str) -> bool:
    """Return whether nothing works on the device any more in this process."""
    try:
        return int(torch.ones(1, device=device).sum()) != 1
    except RuntimeError:
        return True


def main(arguments: list[str]) -> int:
    """Measure the rungs that are due; return the exit code."""
    parser = argparse.ArgumentParser(description="Measure a group of rungs of the optimization ladder.")
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--to", type=Path, required=True, help="the file of JSON lines")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which no other rung is begun")
    parser.add_argument("--tiny", action="store_true", help="rehearse on the CPU with tiny networks")
    options = parser.parse_args(arguments)
    end = time.monotonic() + options.limit
    sizes = TINY if options.tiny else FULL
    ladder = Ladder(options.to, options.group, sizes)
    for rung in rungs_of(options.group, sizes):
        if not ladder.is_due(rung):
            continue
        if time.monotonic() > end:
            print(f"{options.group}: the time is over; the same command continues")
            return TIME_IS_OVER
        ladder.measure(rung)
        if is_lost(sizes.device):
            print(f"{options.group}: the device is lost for this process; the same command continues")
            return DEVICE_IS_LOST
        release(sizes.device)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
