"""Try one model of each module of timm with the harness, and write the outcomes to a table.

    python tests/vision/timm_sweep.py choose             # write timm_models.csv: the smallest model of each module
    python tests/vision/timm_sweep.py run [MODEL …]      # try the models that the table lacks, and add a line for each
    python tests/vision/timm_sweep.py try MODEL          # print the line of a model as JSON after each stage

Each model is tried (`timm_trial.py`) in its own process, with a time limit, a memory limit and one thread. `timm_page.py`
writes the table into docs/timm.md.
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
    """Yield the module, name and number of parameters of the smallest classifier of each module of timm."""
    import timm

    for module in sorted(timm.list_modules()):
        sizes = {}
        for name in timm.list_models(module=module):
            size = _parameters(name)
            if size:
                sizes[name] = size
        if sizes:
            smallest = min(sizes, key=lambda name: (sizes[name], name))
            yield {"module": module, "model": smallest, "parameters": sizes[smallest]}


def _parameters(name: str) -> int:
    """Return a classifier's number of parameters; 0 for an encoder, and for a model that the meta device cannot build."""
    import timm
    import torch

    try:
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=CLASSES)
    except Exception:  # some constructors read values of tensors
        return 0
    if model.num_classes != CLASSES:
        return 0
    return sum(p.numel() for p in model.parameters())


def chosen(names: Iterable[str] = ()) -> list[dict[str, str]]:
    """Return the chosen models: all, or those named."""
    with MODELS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = set(names)
    return [row for row in rows if not wanted or row["model"] in wanted]


# All models


def run(names: Iterable[str], table: Path, workers: int, timeout: float, memory: float) -> None:
    """Try the models that the table lacks, `workers` at a time, and add each line when it is known."""
    lines = _lines(table)
    missing = [row for row in chosen(names) if row["model"] not in lines]
    with ThreadPoolExecutor(workers) as pool:
        for future in as_completed([pool.submit(try_in_process, row, timeout, memory) for row in missing]):
            line = future.result()
            lines[line.model] = {name: str(value) for name, value in asdict(line).items()}
            _write(table, lines)
            stages = ", ".join(f"{name} {getattr(line, name)[:60] or '-'}" for name in STAGES)
            print(f"{line.model}: {stages}; {line.seconds} s", flush=True)


def _lines(table: Path) -> dict[str, dict[str, str]]:
    """Return the lines of the table by model."""
    if not table.is_file():
        return {}
    with table.open(newline="") as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def _write(table: Path, lines: dict[str, dict[str, str]]) -> None:
    """Replace the table by lines, ordered by module."""
    table.parent.mkdir(parents=True, exist_ok=True)
    temporary = table.with_suffix(".new")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(lines.values(), key=lambda line: line["module"]))
    temporary.replace(table)


def try_in_process(row: dict[str, str], timeout: float, memory: float) -> Line:
    """Try a model in its own process, with a time limit in seconds and a memory limit in GiB."""
    line = Line(row["module"], row["model"], int(row["parameters"]))
    command = [sys.executable, __file__, "try", line.model, "--memory", str(memory)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    start = time.monotonic()
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
            problem = ""
            if process.returncode:
                problem = last_line(errors) or f"ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # with the processes of the harness that it started
            output, _ = process.communicate()
            problem = f"not done after {timeout:g} s"
    if output:
        line = Line(**json.loads(output.splitlines()[-1]))
    if problem:
        unfinished = [stage for stage in ("build", "train", "symmetry") if not getattr(line, stage)]
        setattr(line, unfinished[0], problem)
    line.seconds = round(time.monotonic() - start, 1)
    line.timm = version("timm")
    line.torch = version("torch")
    line.cpu = _cpu()
    return line


def _cpu() -> str:
    """Return the name of the processor from /proc/cpuinfo."""
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
    arguments = parser.parse_args()
    if arguments.what == "choose":
        with MODELS.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["module", "model", "parameters"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(choose())
    elif arguments.what == "run":
        run(arguments.models, arguments.table, arguments.workers, arguments.timeout, arguments.memory)
    else:
        limit = int(arguments.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        [row] = chosen(arguments.models)
        for line in try_model(Line(row["module"], row["model"], int(row["parameters"]))):
            print(json.dumps(asdict(line)), flush=True)


if __name__ == "__main__":
    main()
