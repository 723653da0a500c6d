"""Make the derived files of a bundle again, from its rows, benchmark and provenance: board, page, digests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness import files
from harness.bundles.digests import digest_of, write_digests
from harness.bundles.layout import BENCHMARK, BOARD, EXAMPLES, PAGE, PROVENANCE, RESULTS, read_json
from harness.bundles.run_files import board_of, facts_of, page_of, published_rows
from harness.errors import UserError
from harness.results.rows import load_rows, write_rows

if TYPE_CHECKING:
    from harness.api.figure import Figure


def rebuild(folder: Path, figures: Mapping[str, type[Figure]]) -> tuple[str, ...]:
    """Write `leaderboard.md`, `report.html` and `digests.json` of a bundle without members. Return what could not be drawn.

    Values of `results.csv` are not changed; a file of an older version gets the columns that it lacks. `figures` are those of
    the page, by the label that messages use. Raise `UserError` if the folder lacks rows, benchmark or provenance.
    """
    rows = published_rows(load_rows(folder))
    benchmark, provenance = _facts(folder / BENCHMARK), _facts(folder / PROVENANCE)
    page, problems = page_of(folder, facts_of(benchmark, provenance), rows, figures)
    write_rows(folder / RESULTS, rows)
    files.write_atomically(folder / BOARD, board_of(rows))
    files.write_atomically(folder / PAGE, page)
    present = [name for name in (RESULTS, EXAMPLES, BOARD, PAGE, BENCHMARK, PROVENANCE) if (folder / name).is_file()]
    write_digests(folder, {name: digest_of(folder / name) for name in present})
    return problems


def _facts(path: Path) -> dict[str, object]:
    if not path.is_file():
        raise UserError(f"{path}: not there; a bundle has one, which `harness publish` writes")
    return read_json(path)
