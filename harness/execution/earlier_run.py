"""What to do with the files of an earlier run in the folder of one that has other rows: they are kept in a folder beside."""

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
from harness.files import sync_folder
from harness.leaderboard import board
from harness.results.rows import FILE_NAME, Row, frame, load_rows
from harness.text import escape_unprintable

if TYPE_CHECKING:
    import pandas as pd

_NO_KEY = "0" * 64
_NAMED = 5  # names of a kind that a message lists


def keep_earlier_run(folder: Path, planned: Sequence[Row]) -> str:
    """Move the files of an earlier run to `earlier-1`, or the next free number, if it has done rows that this run lacks.

    `planned` is a row per cell and metric of this run. Return a line that says what was moved and where, or nothing if the
    run goes on in place. Raise `UserError` if the files cannot be moved: nothing is lost then.
    """
    if not (folder / FILE_NAME).is_file():
        return ""
    try:
        foreign = _rows_to_be_lost(load_rows(folder), planned)
    except UserError as error:
        return escape_unprintable(f"{error}; that file and those beside it are now in {_move(folder)}")
    if not foreign:
        return ""
    differences = _differences(foreign, planned)
    target = _move(folder)
    return escape_unprintable(
        f"{folder}: held results that this run does not have ({differences}); they are now in {target}, and "
        f"`harness leaderboard {_shown(folder, target, planned)}` shows them; --out chooses another folder for a run"
    )


def _shown(folder: Path, target: Path, planned: Sequence[Row]) -> str:
    """Return the folders of one board that has the moved rows: with this run's, and all earlier ones', where they fit."""
    here = shlex.quote(str(folder))
    if not _fit_one_board([target], planned):
        return shlex.quote(str(target))
    if _fit_one_board(folder.glob("earlier-*"), planned):
        return f"{here} {here}/earlier-*"
    return f"{here} {shlex.quote(str(target))}"


def _rows_to_be_lost(rows: Iterable[Row], planned: Sequence[Row]) -> list[Row]:
    """Return the done rows that this run will not write. A cell that cannot be planned at the moment is not another cell."""
    kept = {(*_cell_of(row), row.cell, row.metric_version) for row in planned}
    unplanned = {(*_cell_of(row), row.metric_version) for row in planned if row.status == "failed"}
    lost = []
    for row in rows:
        ours = (*_cell_of(row), row.cell, row.metric_version) in kept or (*_cell_of(row), row.metric_version) in unplanned
        if row.status == "done" and not ours:
            lost.append(row)
    return lost


def _cell_of(row: Row) -> tuple[str, str, str, str, int]:
    return row.benchmark, row.dataset, row.architecture, row.method, row.seed


def _differences(foreign: Sequence[Row], planned: Sequence[Row]) -> str:
    """Say in a few words which names the earlier rows have that this run has not."""
    found = []
    for attribute in ("benchmark", "dataset", "architecture", "method", "seed", "metric"):
        ours = {getattr(row, attribute) for row in planned}
        theirs = [row for row in foreign if attribute != "metric" or row.main]
        names = [str(name) for name in dict.fromkeys(getattr(row, attribute) for row in theirs) if name not in ours]
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            found.append(f"{attribute}{'s' if len(names) > 1 else ''} {', '.join(names[:_NAMED])}{more}")
    if not found:
        same = {_cell_of(row) for row in planned} & {_cell_of(row) for row in foreign}
        found.append("the same cells with other settings" if same else "other combinations of the same names")
    return "; ".join(found)


def _fit_one_board(folders: Iterable[Path], planned: Sequence[Row]) -> bool:
    """Say whether the rows in some folders and this run's can stand on one board, once this run is done."""
    try:
        earlier = {str(folder): _without_values(load_rows(folder)) for folder in folders}
        board({"now": _without_values(planned), **earlier})
    except UserError:
        return False
    return True


def _without_values(rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows as if all were done. This run's values are not known yet: what was measured stands for the value."""
    done = []
    for row in rows:
        value = float(zlib.crc32(f"{row.cell} {row.metric_version}".encode()))
        done.append(replace(row, status="done", value=value, message="", cell=row.cell or _NO_KEY, key=row.key or _NO_KEY))
    return frame(done)


def _move(folder: Path) -> Path:
    """Move this project's files to the next free `earlier-N`. That folder appears whole, before anything is removed."""
    present = [name for name in FILES if (folder / name).is_file()]
    staging = folder / f".earlier-{secrets.token_hex(8)}.part"
    try:
        staging.mkdir()
        for name in present:
            _link_or_copy(folder / name, staging / name)
        _sync(staging)
        target = _rename_to_next(staging, folder)
        _sync(folder)
        for name in reversed(present):  # the rows last: as long as they are there, the next run does the rest
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
    _sync(target)


def _rename_to_next(staging: Path, folder: Path) -> Path:
    for number in itertools.count(1):
        target = folder / f"earlier-{number}"
        if os.path.lexists(target):
            continue
        try:
            staging.rename(target)
        except OSError:
            if not os.path.lexists(target):  # else another run was faster
                raise
            continue
        return target
    raise AssertionError  # itertools.count has no end


def _sync(path: Path) -> None:
    """Sync a file, or the names in a folder, to the disk, where the file system can do that."""
    with contextlib.suppress(OSError):
        sync_folder(path)
