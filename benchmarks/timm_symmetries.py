"""Derive the symmetry groups of one network of each module of timm, and write them to benchmarks/results/timm_symmetries.csv.

    python benchmarks/timm_symmetries.py            # the networks that the table lacks, one after another
    python benchmarks/timm_symmetries.py MODEL …    # these networks, again
    python benchmarks/timm_symmetries.py --page     # write the section of docs/timm.md from the table

The networks and their image sizes are those of benchmarks/results/timm.csv. Each network has random weights and is tried in its
own process, with a time limit and a memory limit.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import platform
import re
import resource
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
NETWORKS = RESULTS / "timm.csv"
TABLE = RESULTS / "timm_symmetries.csv"
PAGE = Path(__file__).parents[1] / "docs" / "timm.md"
BEGIN = "<!-- from benchmarks/results/timm_symmetries.csv, by benchmarks/timm_symmetries.py -->\n"
END = "<!-- end of the symmetry groups -->\n"
CLASSES = 10
CERTIFIED = "certified"


@dataclass
class Line:
    """The groups of one network. Of each kind: the number of groups, and of independent elements (one per attention head).

    `outcome` is `certified`, or the reason why no groups were derived. `refused` has the reasons for single groups that were
    found but not kept, with their number.
    """

    module: str
    model: str
    parameters: int
    image_size: int
    permutation_groups: int | str = ""
    permutations: int | str = ""
    scale_groups: int | str = ""
    scales: int | str = ""
    orthogonal_groups: int | str = ""
    orthogonal: int | str = ""
    invertible_groups: int | str = ""
    invertible: int | str = ""
    permutation_seconds: float | str = ""
    other_seconds: float | str = ""
    outcome: str = ""
    refused: str = ""
    timm: str = ""
    torch: str = ""
    cpu: str = ""


COLUMNS = [field.name for field in fields(Line)]


def derive(model: str, size: int) -> dict[str, Any]:
    """Return the columns of one network's groups. Raise for a network whose permutations cannot be derived."""
    import torch

    from harness import streams
    from harness.registry.catalogue import load_catalogue
    from harness_basin.matching import derive_linear_groups, derive_symmetry

    architecture = load_catalogue().create("architecture", f"timm/{model}")
    with streams.seeded(0):
        network = architecture.build((3, size, size), CLASSES)
        example = torch.randn(2, 3, size, size)
    start = time.perf_counter()
    symmetry = derive_symmetry(network, example)
    middle = time.perf_counter()
    found = derive_linear_groups(network, example, symmetry)
    end = time.perf_counter()
    columns: dict[str, Any] = {"permutation_groups": len(symmetry.groups), "permutations": symmetry.count}
    columns |= {"scale_groups": len(found.of_kind("scale")), "scales": found.count("scale")}
    columns |= {"orthogonal_groups": len(found.of_kind("orthogonal")), "orthogonal": found.count("orthogonal")}
    columns |= {"invertible_groups": len(found.of_kind("invertible")), "invertible": found.count("invertible")}
    columns |= {"permutation_seconds": round(middle - start, 1), "other_seconds": round(end - middle, 1)}
    return columns | {"outcome": CERTIFIED, "refused": _reasons(f"{r.kind}: {_kind_of(r.reason)}" for r in found.refused)}


def _kind_of(reason: str) -> str:
    """Return a reason without the size of a difference."""
    return re.sub(r" by \d.*", "", reason)


def _reasons(reasons: Iterable[str]) -> str:
    """Return different reasons, each with the number of groups that it holds for."""
    count: dict[str, int] = {}
    for reason in reasons:
        count[reason] = count.get(reason, 0) + 1
    return "; ".join(f"{number} × {reason}" for reason, number in count.items())


def run(names: Iterable[str], timeout: float, memory: float) -> None:
    """Derive the groups of the named networks, or of those that the table lacks, the smallest first.

    Each line is added to the table when it is known.
    """
    import timm  # noqa: F401 - the processes are forks
    import torch

    torch.set_num_threads(1)  # a fork must not inherit a pool of threads
    lines = _lines()
    wanted = set(names)
    with NETWORKS.open(newline="") as file:
        networks = sorted(csv.DictReader(file), key=lambda row: int(row["parameters"]))
    for row in networks:
        model = row["model"]
        if (wanted and model not in wanted) or (not wanted and model in lines):
            continue
        line = Line(row["module"], model, int(row["parameters"]), int(row["image_size"]))
        for name, value in _in_a_process(line, timeout, memory).items():
            setattr(line, name, value)
        line.timm, line.torch, line.cpu = version("timm"), version("torch"), _cpu()
        lines[model] = {name: str(value) for name, value in asdict(line).items()}
        _write(lines)
        print(f"{model}: {line.outcome}", flush=True)


def _in_a_process(line: Line, timeout: float, memory: float) -> dict[str, Any]:
    """Return the columns of a network's groups, or the reason for having none as its outcome.

    The process is a fork of this one, which has imported everything already.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_groups, args=(line.model, line.image_size, memory, sender))
    process.start()
    sender.close()
    columns: dict[str, Any] = {"outcome": f"not finished after {timeout:.0f} s"}
    if receiver.poll(timeout):
        try:
            columns = receiver.recv()
        except EOFError:
            process.join()
            columns = {"outcome": f"the process ended with {process.exitcode}"}
    process.kill()
    process.join()
    return columns


def _send_groups(model: str, size: int, memory: float, sender: Any) -> None:
    """Send the columns of a network's groups, or the error. The process gets `memory` GiB of address space."""
    limit = int(memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        sender.send(derive(model, size))
    except Exception as error:  # any failure is a line of the table
        sender.send({"outcome": f"{type(error).__name__}: {error}".splitlines()[0]})


def _lines() -> dict[str, dict[str, str]]:
    """Return the lines of the table by model."""
    if not TABLE.is_file():
        return {}
    with TABLE.open(newline="") as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def _write(lines: dict[str, dict[str, str]]) -> None:
    """Write the table, sorted by module."""
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(lines.values(), key=lambda row: row["module"]))


def section(rows: Sequence[dict[str, str]]) -> str:
    """Return the table as Markdown: versions, counts, what was refused, and a line per network."""
    certified = [row for row in rows if row["outcome"] == CERTIFIED]
    versions = {(row["timm"], row["torch"], row["cpu"]) for row in rows}
    lines = []
    for timm, torch, cpu in sorted(versions):
        lines.append(f"Derived with timm {timm} and torch {torch} on one core of an {cpu}, which other programs used as well.")
    with NETWORKS.open(newline="") as file:
        modules = len(list(csv.DictReader(file)))
    lines += [f"Of {modules} modules, {len(rows)} were tried:", ""]
    lines.append(f"- {len(certified)} have permutations that are derived and checked.")
    for kind, column in (("positive scales", "scales"), ("rotations", "orthogonal"), ("invertible maps", "invertible")):
        lines.append(f"- {sum(row[column] != '0' for row in certified)} have {kind} as well.")
    lines += [
        "",
        "| network | permutations | scales | orthogonal | invertible | s | not derived |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        seconds = ""
        if row["outcome"] == CERTIFIED:
            seconds = f"{float(row['permutation_seconds']) + float(row['other_seconds']):.1f}"
        reason = row["refused"] if row["outcome"] == CERTIFIED else row["outcome"]
        cells = [f"`{row['model']}`", row["permutations"], row["scales"], row["orthogonal"], row["invertible"], seconds, reason]
        lines.append("| " + " | ".join(cell or "–" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def write_page() -> None:
    """Replace the section of the page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + BEGIN + "\n" + section(list(_lines().values())) + "\n" + END + after, encoding="utf-8")


def _cpu() -> str:
    """Return the name of the processor, as far as the system tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", help="networks to try again; by default those that the table lacks")
    parser.add_argument("--page", action="store_true", help="write the section of docs/timm.md from the table")
    parser.add_argument("--timeout", type=float, default=900, help="seconds per network")
    parser.add_argument("--memory", type=float, default=14, help="GiB of address space per network")
    arguments = parser.parse_args()
    if arguments.page:
        write_page()
        return
    run(arguments.models, arguments.timeout, arguments.memory)


if __name__ == "__main__":
    main()
