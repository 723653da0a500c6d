#!/usr/bin/env python3
"""Check and measure a CUDA device that is at hand for a short time: is it right, how fast is it, how do runs go?

    python benchmarks/gpu.py prepare --to wheels                          # here, with the internet
    HARNESS_DATA=data python benchmarks/gpu.py OUT --limit 9m --scratch /tmp/gpu --wheels wheels   # there, in every time slot

Each part runs in a process of its own, within the time that is left. `OUT/gpu.jsonl` gets a line when a part begins and ends,
`OUT/ladder.jsonl` one per rung, `OUT/output.txt` all output as it comes. So a call that is killed loses nothing, and the next
one skips what is done. A part that fails is tried once more in the next call, then left out with its reason. OUT has at most
eight files of at most 16 MiB. docs/performance.md has the exact commands.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "perf"))

from gpu_parts import PARTS, Call
from gpu_slot import Slot
from gpu_wheels import PrepareError, prepare

_SECONDS = {"s": 1, "m": 60, "h": 3600}


def main(arguments: Sequence[str]) -> int:
    """Run the parts that are due, or collect wheels; return the exit code."""
    if arguments[:1] == ["prepare"]:
        return _prepare(arguments[1:])
    options = _parser().parse_args(arguments)
    call = _call(options)
    slot = Slot(call, time.monotonic() + options.limit)
    known = [part.name for part in PARTS]
    for name in [*(options.only or ()), *options.again]:
        if name not in known:
            print(f"unknown part {name!r}; known: {', '.join(known)}", file=sys.stderr)
            return 2
    if options.wheels is not None and not slot.install(options.wheels.absolute()):
        return 1
    for part in PARTS:
        if part.name in options.again:
            slot.again(part)
        if options.only is None or part.name in options.only:
            slot.run(part)
    print("\n".join(slot.summary))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpu.py", description="Check and measure a CUDA device, in time slots.")
    parser.add_argument("out", type=Path, help="the folder for results; the same in every call")
    parser.add_argument("--limit", type=seconds_of, default="9m", help="the time of this call: 540, 90s, 9m, 2h; default: 9m")
    parser.add_argument("--scratch", type=Path, help="the folder for weights and compiled kernels; default: OUT.scratch")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels to install what is missing from")
    parser.add_argument("--data", type=Path, default=os.environ.get("HARNESS_DATA"), help="data root; default: HARNESS_DATA")
    parser.add_argument("--only", nargs="+", metavar="PART", help="run these parts only")
    parser.add_argument("--again", nargs="+", metavar="PART", default=[], help="run these parts although done or left out")
    parser.add_argument("--dataset", default="cifar10", help="the data set of the runs; default: cifar10")
    parser.add_argument("--images", type=int, default=49_920, help="images of an epoch of the runs; default: CIFAR-10's")
    parser.add_argument("--tiny", action="store_true", help="rehearse on the CPU with tiny networks")
    return parser


def seconds_of(text: str) -> float:
    """Return a duration such as 540, 90s, 9m or 2h in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 540, 90s, 9m or 2h")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def _call(options: argparse.Namespace) -> Call:
    out: Path = options.out.absolute()
    scratch: Path = (options.scratch or out.with_name(f"{out.name}.scratch")).absolute()
    for folder in (out, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    data = Path(options.data).absolute() if options.data else None
    return Call(out, scratch, data, options.tiny, options.dataset, options.images)


def _prepare(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpu.py prepare", description="Collect wheels for a machine without the internet.")
    parser.add_argument("--to", type=Path, required=True, help="the folder for the wheels")
    options = parser.parse_args(arguments)
    try:
        print("\n".join(prepare(options.to)))
    except PrepareError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
