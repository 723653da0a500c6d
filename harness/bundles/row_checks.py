"""Checks of a bundle's rows that need no weights: the board, the contributions of images, and the plan of the benchmark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.api.task import canonical_json
from harness.benchmark import Benchmark
from harness.bundles.benchmark_json import benchmark_of
from harness.bundles.bundle import Bundle
from harness.bundles.findings import Findings
from harness.bundles.layout import BENCHMARK, BOARD, EXAMPLES, MAX_JSON, PROVENANCE, RESULTS
from harness.bundles.member_source import place_of
from harness.bundles.run_files import board_of, published_rows
from harness.bundles.scrubbing import scrub_text
from harness.errors import HarnessError, UserError
from harness.execution.rows import rows as planned_rows
from harness.execution.run_state import RunState
from harness.files import read
from harness.plan.planner import plan
from harness.plan.tasks import key_of_ensemble
from harness.registry.catalogue import Catalogue
from harness.registry.recorded_identity import as_recorded
from harness.results.examples import Examples
from harness.results.rows import Row

RowPlace = tuple[str, str, str, str, int, str]
"""The place of a row, `Row.place`."""

_MEAN_TOLERANCE = 1e-5  # of the mean size of the contributions, which are float32
_PLANNED = ("members", "options", "method_version", "metric_version", "objective")
"""The columns that follow from the benchmark file alone, beside the costs."""


def check_board(bundle: Bundle, rows: Sequence[Row], findings: Findings) -> None:
    """Compare `leaderboard.md` with the board of the rows."""
    found = read(bundle.folder / BOARD, MAX_JSON).decode("utf-8", "replace").splitlines()
    try:
        expected = board_of(rows).splitlines()
    except UserError as error:
        findings.differs("board", f"the rows make no board: {error}")
        return
    problems = []
    for number, (given, computed) in enumerate(zip([*found, ""], [*expected, ""]), start=1):
        if given != computed:
            problems.append(f"{BOARD}:{number}: is not the board of {RESULTS}; the rows give {computed!r:.160}")
            break
    if not problems and len(found) != len(expected):
        problems.append(f"{BOARD}: has {len(found)} lines; the board of {RESULTS} has {len(expected)}")
    here = version("basin-harness")
    if problems and bundle.digests.version != here:
        findings.note("board", f"the bundle was made by basin-harness {bundle.digests.version}, and this is {here}")
    findings.result("board", problems, f"{BOARD} is the board of the {len(rows)} rows in {RESULTS}")


def check_examples(bundle: Bundle, rows: Sequence[Row], findings: Findings) -> None:
    """Compare every value that is a mean over test images with the images' contributions in `examples.npz`."""
    if EXAMPLES not in bundle.digests.files:
        findings.note("examples", f"the bundle has no {EXAMPLES}")
        return
    examples = Examples(bundle.folder / EXAMPLES)
    problems = []
    compared = 0
    for row in rows:
        if not row.main or row.status != "done":
            continue
        contributions = examples.read(row.key, row.unit)
        if contributions is None:
            continue
        compared += 1
        mean = float(contributions.mean())
        allowed = _MEAN_TOLERANCE * float(abs(contributions).mean())
        if row.value is None or not (abs(mean - row.value) <= allowed or repr(mean) == repr(row.value)):
            problems.append(f"{describe(row)}: {RESULTS} has {row.value!r}, the mean of its images in {EXAMPLES} is {mean!r}")
    findings.result("examples", problems, f"{compared} values are the means of their images in {EXAMPLES}")


def check_members_listed(bundle: Bundle, rows: Sequence[Row], findings: Findings) -> None:
    """Compare the keys of ensembles in the rows with those of their members in `provenance.json`."""
    cells = {entry.place: key_of_ensemble(entry.keys) for entry in bundle.ensembles}
    problems = []
    for row in {place_of(row): row for row in rows if row.cell}.values():
        expected = cells.get(place_of(row))
        if expected is not None and expected != row.cell:
            problems.append(f"{describe_ensemble(row)}: not the ensemble of the members listed in {PROVENANCE}")
    if cells or problems:
        findings.result("ensembles", problems, f"{len(cells)} ensembles have the members listed in {PROVENANCE}")


def check_plan(bundle: Bundle, rows: Sequence[Row], catalogue: Catalogue, data: Path, findings: Findings) -> None:
    """Plan the benchmark again, and compare costs, options and versions with those in the rows. Nothing is trained."""
    try:
        graph = plan(benchmark_of(bundle.benchmark, bundle.folder / BENCHMARK, catalogue).located(data))
        problems = [cell.problem for cell in graph.cells if cell.problem]
    except HarnessError as error:
        findings.note("plan", f"costs and options were not compared, since the benchmark cannot be planned here: {error}")
        return
    if problems:
        findings.note("plan", f"costs and options of {len(problems)} ensembles were not compared: {problems[0]}")
    options = _recorded_options(bundle.benchmark, graph.benchmark)
    planned = {}
    for row in published_rows(planned_rows(graph, RunState())):
        planned[row.place] = replace(row, options=options[row.dataset, row.architecture, row.method])
    compared = [row for row in rows if row.place in planned]
    different = [*_plan_problems(compared, planned), *_missing_rows(rows, planned)]
    findings.result("plan", different, f"costs, options and versions of {len(compared)} rows are those of the benchmark's plan")


def _recorded_options(facts: Mapping[str, Any], benchmark: Benchmark) -> dict[tuple[str, str, str], str]:
    """Return the options of methods as rows have them, without those that methods have gained since `facts` was written.

    They are given by the labels of data set, architecture and method.
    """
    found = {}
    for entry, setup in zip(facts["pairs"], benchmark.setups, strict=True):
        for recorded, method in zip(entry["methods"], setup.methods, strict=True):
            present = method.plugin.identity["options"]
            text = canonical_json(as_recorded(present, present, recorded["options"]))
            dataset, architecture = scrub_text(setup.dataset.label), scrub_text(setup.architecture.label)
            found[dataset, architecture, scrub_text(method.label)] = scrub_text(text)
    return found


def _plan_problems(rows: Sequence[Row], planned: Mapping[RowPlace, Row]) -> Iterator[str]:
    for row in rows:
        expected = planned[row.place]
        if expected.status == "failed":  # its cell cannot be planned here
            continue
        for name in _PLANNED:
            given, computed = getattr(row, name), getattr(expected, name)
            if given != computed:
                yield f"{describe(row)}: {name} is {given!r:.80}; the plan gives {computed!r:.80}"
        if expected.status == "done" and not _equal(row.value, expected.value):
            yield f"{describe(row)}: published {row.value!r}; the plan gives {expected.value!r}"


def _missing_rows(rows: Sequence[Row], planned: Mapping[RowPlace, Row]) -> Iterator[str]:
    """Yield planned main values that the rows lack, and rows of ensembles that are not planned."""
    present = {row.place for row in rows}
    ensembles = {place_of(row) for row in planned.values()}
    for place, row in planned.items():
        if place not in present:
            yield f"{describe(row)}: the benchmark has it, {RESULTS} has no row of it"
    for row in rows:
        if place_of(row) not in ensembles:
            yield f"{describe(row)}: the benchmark has no such ensemble"


def _equal(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)


def describe(row: Row) -> str:
    """Return which number a row is, for messages."""
    return f"{describe_ensemble(row)}, {row.metric}"


def describe_ensemble(row: Row) -> str:
    """Return which ensemble a row is about, for messages."""
    return f"{row.dataset} × {row.architecture}, {row.method}, seed {row.seed}"
