"""Rebuild `benchmarks/results`: bundles of recorded runs without members, their index, and the log of corrected values.

    python benchmarks/publish_results.py                                # boards, pages, digests and index again
    python benchmarks/publish_results.py runs/quickstart quickstart     # and take over the rows of a run
    python benchmarks/publish_results.py runs/x x --reason "q̄ counted one draw twice"

A run whose values differ from the recorded ones is taken over with a reason only; `corrections.csv` keeps both values.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from harness.bundles.layout import BENCHMARK, EXAMPLES, PROVENANCE, RESULTS, read_json
from harness.bundles.publishing import Publication, publish
from harness.bundles.rebuilding import rebuild
from harness.cli.report import figure_plugins
from harness.errors import UserError
from harness.files import write_atomically
from harness.leaderboard.escaping import markdown
from harness.registry.catalogue import Catalogue, load_catalogue
from harness.results.rows import Row, load_rows
from harness.runs.places import data_folder
from harness.runs.run import open_run

RESULTS_FOLDER = Path(__file__).resolve().parent / "results"
BEGIN, END = "<!-- made by benchmarks/publish_results.py -->\n", "<!-- end -->\n"
CORRECTIONS = "corrections.csv"


class Correction(NamedTuple):
    """A recorded value that was replaced by another one."""

    date: str
    bundle: str
    dataset: str
    architecture: str
    method: str
    seed: str
    metric: str
    old: str
    new: str
    reason: str


def corrections_of(bundle: str, old: Iterable[Row], new: Iterable[Row], reason: str, today: str) -> list[Correction]:
    """Return the values of `old` that have other values in `new`, or none."""
    values = {row.place: row.value for row in new}
    found = []
    for row in old:
        value = values.get(row.place)
        if row.status == "done" and repr(row.value) != repr(value):
            replaced = "" if value is None else repr(value)
            place = (row.dataset, row.architecture, row.method, str(row.seed), row.metric)
            found.append(Correction(today, bundle, *place, repr(row.value), replaced, reason))
    return found


def read_corrections(folder: Path) -> list[Correction]:
    """Return the corrections that were recorded, the oldest first."""
    path = folder / CORRECTIONS
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [Correction(**line) for line in csv.DictReader(file)]


def write_corrections(folder: Path, corrections: Sequence[Correction]) -> None:
    """Write all corrections."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(Correction._fields)
    writer.writerows(corrections)
    write_atomically(folder / CORRECTIONS, buffer.getvalue())


def take_over(run: Path, name: str, folder: Path, reason: str, catalogue: Catalogue) -> None:
    """Replace a bundle by one of a run, without members. Raise `UserError` if values differ and there is no reason."""
    target = folder / name
    if (target / RESULTS).exists():
        changed = corrections_of(name, load_rows(target), load_rows(run), reason, date.today().isoformat())
        if changed and not reason:
            first = changed[0]
            raise UserError(
                f"{run}: {len(changed)} values differ from those recorded in {target}, the first is {first.method}, "
                f"{first.metric}: {first.old} → {first.new or 'none'}; --reason TEXT says why they are corrected"
            )
        write_corrections(folder, [*read_corrections(folder), *changed])
    publish(
        Publication(
            run=open_run(run),
            target=target,
            catalogue=catalogue,
            figures=figure_plugins(catalogue),
            data=data_folder(None),
            with_members=False,
            say=print,
        )
    )


def bundles_in(folder: Path) -> list[Path]:
    """Return the folders of bundles, sorted."""
    return sorted(path.parent for path in folder.glob(f"*/{RESULTS}"))


def index(folder: Path) -> str:
    """Return the generated part of README.md: the table of bundles, and that of corrected values."""
    lines = [
        "| bundle | benchmark | what | made with |",
        "|---|---|---|---|",
        *(_line(path) for path in bundles_in(folder)),
        "",
        "## Corrected values",
        "",
        *_correction_lines(read_corrections(folder)),
        "",
    ]
    return "\n".join(lines)


def _line(bundle: Path) -> str:
    benchmark, provenance = read_json(bundle / BENCHMARK), read_json(bundle / PROVENANCE)
    rows = load_rows(bundle)
    ensembles = {(row.dataset, row.architecture, row.method, row.seed) for row in rows if row.status == "done"}
    seeds = sorted({row.seed for row in rows})
    datasets = ", ".join(dict.fromkeys(row.dataset for row in rows))
    networks = ", ".join(dict.fromkeys(row.architecture for row in rows))
    images = ", with contributions of test images" if (bundle / EXAMPLES).exists() else ""
    of_seeds = ", ".join(map(str, seeds))
    what = f"{len(ensembles)} ensembles on {datasets} with {networks}; seeds {of_seeds}; {len(rows)} rows{images}"
    board = f"[{bundle.name}]({bundle.name}/leaderboard.md)"
    return f"| {board} | {markdown(str(benchmark['name']))} | {markdown(what)} | {markdown(_made_with(provenance))} |"


def _made_with(provenance: dict[str, Any]) -> str:
    packages = provenance.get("packages", {})
    git = provenance.get("git") or {}
    parts = [
        str(provenance.get("processor", "an unknown processor")),
        f"Python {provenance.get('python')}",
        f"torch {packages.get('torch')}",
    ]
    if git.get("commit"):
        parts.append(f"commit {str(git['commit'])[:12]}")
    return ", ".join(parts)


def _correction_lines(corrections: Sequence[Correction]) -> Iterator[str]:
    if not corrections:
        yield f"None so far. `{CORRECTIONS}` would list them."
        return
    yield "| date | bundle | value | was | is | why |"
    yield "|---|---|---|--:|--:|---|"
    for one in corrections:
        value = f"{one.dataset}, {one.architecture}, {one.method}, seed {one.seed}, {one.metric}"
        yield f"| {one.date} | {one.bundle} | {markdown(value)} | {one.old} | {one.new} | {markdown(one.reason)} |"


def write_index(folder: Path) -> None:
    """Replace the generated part of README.md."""
    path = folder / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    write_atomically(path, f"{before}{BEGIN}{index(folder)}{END}{after}")


def main(arguments: Sequence[str] | None = None, folder: Path = RESULTS_FOLDER) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Rebuild benchmarks/results.")
    parser.add_argument("run", nargs="?", type=Path, help="the folder of a run to take over")
    parser.add_argument("name", nargs="?", help="the name of its bundle")
    parser.add_argument("--reason", default="", help="why recorded values are corrected")
    given = parser.parse_args(arguments)
    if (given.run is None) != (given.name is None):
        parser.error("name the folder of a run and the name of its bundle, or neither")
    catalogue = load_catalogue()
    try:
        if given.run is not None:
            take_over(given.run, given.name, folder, given.reason, catalogue)
        for bundle in bundles_in(folder):
            for problem in rebuild(bundle, figure_plugins(catalogue)):
                print(f"warning: {bundle.name}: {problem}")
            print(f"{bundle.name}: {json.dumps(read_json(bundle / BENCHMARK)['name'])} rebuilt")
        write_index(folder)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
