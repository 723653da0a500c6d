"""Write the table of the sweep (`timm_sweep.py`) into a section of docs/timm.md.

python tests/vision/timm_page.py           # rewrite the section
python tests/vision/timm_page.py --check   # exit 1 if the section differs from the table
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "benchmarks" / "results" / "timm.csv"
PAGE = ROOT / "docs" / "timm.md"
BEGIN = "<!-- from benchmarks/results/timm.csv, by tests/vision/timm_page.py -->\n"
END = "<!-- end -->\n"
WORKS = "yes"
NETWORK_STAGES = ("build", "train", "reload", "interpolate")
HEADER = ("module", "model", "parameters", "image size", "trains", "reloads", "interpolates", "aligned", "s")
NOTES = {
    ("deepseek_vit_412m", "train"): (
        "A network of 412 million parameters takes 1.6 GB, and the dry pass holds several at once: they did not fit into the "
        "14 GiB that a process was given."
    ),
    ("deepseek_vit_412m", "symmetry"): "The check takes copies in float64, 3.3 GB each, within the same 14 GiB.",
    ("efficientvit_b0", "symmetry"): (
        "The model casts its attention to float32 (`LiteMLA._attn`), so that the check in float64 sees float32's rounding. "
        "Without the casts the symmetry is derived."
    ),
    ("gemma4_vit_167m", "symmetry"): (
        "The model looks its positions up by `one_hot`, which reads the extremes of what it is given."
    ),
    ("sequencer2d_s", "symmetry"): "The tracing of symmetries has no rule for an LSTM.",
}
"""Causes found by hand, by model and stage; written only if the table has a failure there."""

_NO_RULE = re.compile(r"the effect of operation '(?P<operation>[^']*)' on permutations")

Row = dict[str, str]


def section(rows: list[Row]) -> str:
    """Return the table as Markdown: versions, counts, what does not work, one line per module."""
    return "\n".join([*_summary(rows), "", *_problems(rows), *_table(rows)]) + "\n"


def _summary(rows: list[Row]) -> Iterator[str]:
    """Yield versions, processor and counts."""
    timm = _values(rows, "timm")
    torch = _values(rows, "torch")
    cpu = _values(rows, "cpu")
    yield f"Tried with timm {timm} and torch {torch} on one core of an {cpu}, one model of each of {len(rows)} modules:"
    yield ""
    yield f"- {_count(rows, _network_works)} of {len(rows)} are built, trained, stored, reloaded and interpolated."
    yield f"- {_count(rows, _aligned)} of {len(rows)} are aligned by permutations: their symmetry is derived and checked."


def _problems(rows: list[Row]) -> Iterator[str]:
    """Yield the reason, in the words of the harness, of each failure."""
    failures = []
    for row in rows:
        for stage in (*NETWORK_STAGES, "symmetry"):
            if row[stage] not in ("", WORKS):
                failures.append((row, stage))
    if not failures:
        return
    yield "What does not work, and why:"
    yield ""
    for row, stage in failures:
        note = NOTES.get((row["model"], stage), "")
        yield f"- `{row['model']}`, {stage}: {_reason(row[stage])}. {note}".rstrip()
    yield ""


def _table(rows: list[Row]) -> Iterator[str]:
    """Yield a Markdown table with a line per module."""
    yield _line(HEADER)
    yield _line(["---"] * len(HEADER))
    for row in sorted(rows, key=lambda row: row["module"]):
        size = _cell(row["build"])
        if row["image_size"]:
            size = f"{row['image_size']}²"
        stages = [_cell(row[stage]) for stage in ("train", "reload", "interpolate")]
        parameters = f"{int(row['parameters']):,}"
        seconds = f"{float(row['seconds']):.0f}"
        yield _line([row["module"], f"`{row['model']}`", parameters, size, *stages, _symmetry_cell(row), seconds])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(outcome: str) -> str:
    """Return the cell of an outcome: works, failed, or not tried."""
    if outcome == WORKS:
        return WORKS
    if outcome:
        return "**no**"
    return "–"


def _symmetry_cell(row: Row) -> str:
    found = _NO_RULE.search(row["symmetry"])
    if found:
        return f"no rule for `{found['operation']}`"
    return _cell(row["symmetry"])


def _reason(outcome: str) -> str:
    """Return the message of an error for Markdown; of a missing rule, only the name of the operation."""
    found = _NO_RULE.search(outcome)
    if found:
        return f"no rule for `{found['operation']}`"
    return outcome.replace("|", "\\|").replace("<", "&lt;")


def _values(rows: list[Row], column: str) -> str:
    """Return the different values of a column."""
    return " and ".join(sorted({row[column] for row in rows if row[column]}))


def _count(rows: list[Row], predicate: Callable[[Row], bool]) -> int:
    return sum(predicate(row) for row in rows)


def _network_works(row: Row) -> bool:
    return all(row[stage] == WORKS for stage in NETWORK_STAGES)


def _aligned(row: Row) -> bool:
    return row["symmetry"] == WORKS


def page(text: str, rows: list[Row]) -> str:
    """Return the page with a new section; raise `ValueError` if the page has no markers for it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name}: no lines '{BEGIN.strip()}' and '{END.strip()}'; the table goes between them")
    return f"{before}{BEGIN}\n{section(rows)}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the section differs from the table")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    with arguments.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    old = arguments.page.read_text(encoding="utf-8")
    new = page(old, rows)
    if arguments.check:
        return int(new != old)
    arguments.page.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
