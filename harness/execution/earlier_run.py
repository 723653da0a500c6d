"""Keep the files of an earlier run: if a new run in the same folder would overwrite rows, they are moved to a subfolder."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shlex
import shutil
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.execution.run_folder import FILES
from harness.files import sync
from harness.leaderboard import board
from harness.results.rows import FILE_NAME, Row, frame, load_rows
from harness.text import escape_unprintable

if TYPE_CHECKING:
    import pandas as pd

_NO_KEY = "0" * 64
_LISTED_NAMES = 5  # names of a kind that a message lists at most


def keep_earlier_run(folder: Path, planned: Sequence[Row]) -> str:
    """Move the files of an earlier run to `earlier-1`, or the next free number, if this run would overwrite done rows of it.

    `planned` has a row per cell and metric of this run. Return a line that says what was moved and where, or "" if nothing
    was moved. Raise `UserError` if the files cannot be moved; the folder is unchanged then.
    """
    if not (folder / FILE_NAME).is_file():
        return ""
    try:
        lost = _overwritten_rows(load_rows(folder), planned)
    except UserError as error:
        return escape_unprintable(f"{error}; that file and those beside it are now in {_move(folder)}")
    if not lost:
        return ""
    differences = _describe_differences(lost, planned)
    target = _move(folder)
    return escape_unprintable(
        f"{folder}: held results that this run does not have ({differences}); they are now in {target}, and "
        f"`harness leaderboard {_board_arguments(folder, target, planned)}` shows them; --out chooses another folder for a run"
    )


def _board_arguments(folder: Path, target: Path, planned: Sequence[Row]) -> str:
    """Return the arguments of a command that shows the moved rows, together with this and all earlier runs if they fit."""
    here = shlex.quote(str(folder))
    if not _fit_one_board([target], planned):
        return shlex.quote(str(target))
    if _fit_one_board(folder.glob("earlier-*"), planned):
        return f"{here} {here}/earlier-*"
    return f"{here} {shlex.quote(str(target))}"


def _overwritten_rows(rows: Iterable[Row], planned: Sequence[Row]) -> list[Row]:
    """Return the done rows that this run will not write again.

    A planned row has status "failed" if its cell cannot be planned at the moment. Earlier rows with its coordinates do not
    count as lost, since a later run can write them again.
    """
    kept = {(*_coordinates(row), row.cell, row.metric_version) for row in planned}
    unplanned = {(*_coordinates(row), row.metric_version) for row in planned if row.status == "failed"}
    lost = []
    for row in rows:
        is_kept = (*_coordinates(row), row.cell, row.metric_version) in kept
        is_unplanned = (*_coordinates(row), row.metric_version) in unplanned
        if row.status == "done" and not is_kept and not is_unplanned:
            lost.append(row)
    return lost


def _coordinates(row: Row) -> tuple[str, str, str, str, int]:
    return row.benchmark, row.dataset, row.architecture, row.method, row.seed


def _describe_differences(lost: Sequence[Row], planned: Sequence[Row]) -> str:
    """Return which names the lost rows have that this run does not have."""
    found = []
    for attribute in ("benchmark", "dataset", "architecture", "method", "seed", "metric"):
        names = _names_only_in(lost, planned, attribute)
        if names:
            plural = "s" if len(names) > 1 else ""
            surplus = len(names) - _LISTED_NAMES
            more = f" and {surplus} more" if surplus > 0 else ""
            found.append(f"{attribute}{plural} {', '.join(names[:_LISTED_NAMES])}{more}")
    if found:
        return "; ".join(found)
    if {_coordinates(row) for row in planned} & {_coordinates(row) for row in lost}:
        return "the same cells with other settings"
    return "other combinations of the same names"


def _names_only_in(lost: Sequence[Row], planned: Sequence[Row], attribute: str) -> list[str]:
    """Return an attribute's values in the lost rows that no planned row has. Of metrics, only main values count."""
    planned_names = {getattr(row, attribute) for row in planned}
    names: dict[str, None] = {}
    for row in lost:
        name = getattr(row, attribute)
        if name not in planned_names and (attribute != "metric" or row.main):
            names[str(name)] = None
    return list(names)


def _fit_one_board(folders: Iterable[Path], planned: Sequence[Row]) -> bool:
    """Return whether one board can show the rows of some folders and of this run, once this run is done."""
    try:
        earlier = {str(folder): _without_values(load_rows(folder)) for folder in folders}
        board({"now": _without_values(planned), **earlier})
    except UserError:
        return False
    return True


def _without_values(rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows as if all were done. Since values of this run are not known yet, each is a hash of what is measured."""
    done = []
    for row in rows:
        value = float(zlib.crc32(f"{row.cell} {row.metric_version}".encode()))
        cell, key = row.cell or _NO_KEY, row.key or _NO_KEY
        done.append(replace(row, status="done", value=value, message="", cell=cell, key=key))
    return frame(done)


def _move(folder: Path) -> Path:
    """Move the run's files to the next free `earlier-N`. The new folder is complete before the files are removed."""
    present = [name for name in FILES if (folder / name).is_file()]
    staging = folder / f".earlier-{secrets.token_hex(8)}.part"
    try:
        staging.mkdir()
        for name in present:
            _link_or_copy(folder / name, staging / name)
        _sync_if_possible(staging)
        target = _rename_to_next(staging, folder)
        _sync_if_possible(folder)
        for name in reversed(present):  # rows last: while they exist, the next run completes the move
            (folder / name).unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(staging)
        raise UserError(
            f"{folder}: the files of an earlier run cannot be moved to a folder in it: {error.strerror or error}; choose "
            "another folder with --out"
        ) from None
    return target


def _link_or_copy(source: Path, target: Path) -> None:
    if not source.is_symlink():
        with contextlib.suppress(OSError):  # a file system without hard links
            os.link(source, target)
            return
    shutil.copy2(source, target)
    _sync_if_possible(target)


def _rename_to_next(staging: Path, folder: Path) -> Path:
    """Rename a folder to the next free `earlier-N`, and return the new path."""
    for number in itertools.count(1):
        target = folder / f"earlier-{number}"
        if os.path.lexists(target):
            continue
        try:
            staging.rename(target)
        except OSError:
            if not os.path.lexists(target):  # otherwise another run was faster
                raise
            continue
        return target
    raise AssertionError  # itertools.count has no end


def _sync_if_possible(path: Path) -> None:
    with contextlib.suppress(OSError):  # a file system that cannot sync folders
        sync(path)
