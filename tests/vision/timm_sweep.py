"""Try one model of every module of timm through the harness, and keep what works in a table.

    python tests/vision/timm_sweep.py choose             # timm_models.csv: the smallest model of each module
    python tests/vision/timm_sweep.py run [MODEL …]      # a line of the table for each model; run again, it goes on
    python tests/vision/timm_sweep.py try MODEL          # a line as JSON after each stage

Each model is tried (`timm_trial.py`) in a process of its own, with a time limit, a memory limit and one thread.
`timm_page.py` writes the table as a page.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from timm_trial import CLASSES, COLUMNS, STAGES, Line, last_line, try_model

ROOT = Path(__file__).parents[2]
MODELS = Path(__file__).with_name("timm_models.csv")
TABLE = ROOT / "benchmarks" / "results" / "timm.csv"

# Which models


def choose() -> Iterator[dict[str, Any]]:
    """Yield module, name and parameters of the smallest classifier of each module of timm."""
    import timm

    for module in sorted(timm.list_modules()):
        sizes = {name: size for name in timm.list_models(module=module) if (size := _parameters(name))}
        if sizes:
            smallest = min(sizes, key=lambda name: (sizes[name], name))
            yield {"module": module, "model": smallest, "parameters": sizes[smallest]}


def _parameters(name: str) -> int:
    """Return the number of a classifier's parameters; 0 for an encoder, and for what cannot be made without memory."""
    import timm
    import torch

    try:
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=CLASSES)
    except Exception:  # some draw numbers from tensors as they are made
        return 0
    return sum(p.numel() for p in model.parameters()) if model.num_classes == CLASSES else 0


def chosen(names: Iterable[str] = ()) -> list[dict[str, str]]:
    """Return the chosen models: all, or those named."""
    with MODELS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = set(names)
    return [row for row in rows if not wanted or row["model"] in wanted]


# All models


def run(names: Iterable[str], table: Path, workers: int, timeout: float, memory: float) -> None:
    """Try the models that the table lacks, some at a time, and add a line for each as it comes."""
    lines = _lines(table)
    missing = [row for row in chosen(names) if row["model"] not in lines]
    with ThreadPoolExecutor(workers) as pool:
        for future in as_completed([pool.submit(try_apart, row, timeout, memory) for row in missing]):
            line = future.result()
            lines[line.model] = {name: str(value) for name, value in asdict(line).items()}
            _write(table, lines)
            stages = ", ".join(f"{name} {getattr(line, name)[:60] or '-'}" for name in STAGES)
            print(f"{line.model}: {stages}; {line.seconds} s", flush=True)


def _lines(table: Path) -> dict[str, dict[str, str]]:
    if not table.is_file():
        return {}
    with table.open(newline="") as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def _write(table: Path, lines: dict[str, dict[str, str]]) -> None:
    """Write all lines, ordered by module, in the place of the table."""
    table.parent.mkdir(parents=True, exist_ok=True)
    beside = table.with_suffix(".new")
    with beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(lines.values(), key=lambda line: line["module"]))
    beside.replace(table)


def try_apart(row: dict[str, str], timeout: float, memory: float) -> Line:
    """Try a model in a process of its own, which may not take longer (seconds) or more memory (GiB)."""
    line = Line(row["module"], row["model"], int(row["parameters"]))
    command = [sys.executable, __file__, "try", line.model, "--memory", str(memory)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    began = time.monotonic()
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True) as process:
        try:
            said, errors = process.communicate(timeout=timeout)
            problem = ""
            if process.returncode:
                problem = last_line(errors) or f"ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # the harness that it started, too
            said, _ = process.communicate()
            problem = f"not done after {timeout:g} s"
    if said:
        line = Line(**json.loads(said.splitlines()[-1]))
    if problem:
        unfinished = [stage for stage in ("build", "train", "symmetry") if not getattr(line, stage)]
        setattr(line, unfinished[0], problem)
    line.seconds = round(time.monotonic() - began, 1)
    line.timm, line.torch, line.cpu = version("timm"), version("torch"), _cpu()
    return line


def _cpu() -> str:
    """Return the processor's name as Linux tells it."""
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.split(":", 1)[1].strip()
    return "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["choose", "run", "try"])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--workers", type=int, default=1, help="models at a time")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for each model")
    parser.add_argument("--memory", type=float, default=8, help="GiB for each process")
    given = parser.parse_args()
    if given.what == "choose":
        with MODELS.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["module", "model", "parameters"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(choose())
    elif given.what == "run":
        run(given.models, given.table, given.workers, given.timeout, given.memory)
    else:
        limit = int(given.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        [row] = chosen(given.models)
        for line in try_model(Line(row["module"], row["model"], int(row["parameters"]))):
            print(json.dumps(asdict(line)), flush=True)


if __name__ == "__main__":
    main()
