"""Which parts are done, and how often the others have failed, from the lines that earlier calls wrote."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from json_lines import Line, append_line, read_lines

MAX_FAILURES = 2

Status = Literal["began", "done", "failed", "unfinished", "skipped", "left out", "again"]
"""`unfinished`: the part goes on in the next call; `left out`: it has failed twice; `again`: earlier lines are void."""


@dataclass(frozen=True)
class Standing:
    """What earlier calls have done of a part. `reason` is why it failed the last time."""

    done: bool = False
    failures: int = 0
    reason: str = ""
    left_out: bool = False

    def failed(self, reason: str) -> Standing:
        """Return the standing after one more failure."""
        return Standing(self.done, self.failures + 1, reason, self.left_out)


class Journal:
    """The file with a line for each beginning and each end of a part."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, part: str, status: Status, **facts: Any) -> None:
        """Append a line; it is on the disk when this returns."""
        append_line(self._path, {"part": part, "status": status, "time": round(time.time(), 1), **facts})

    def standing(self, part: str, continues: bool) -> Standing:
        """Return the standing of a part. A beginning without an end counts as a failure, unless the part continues."""
        standing = Standing()
        open_since_line = False
        for line in read_lines(self._path):
            if line["part"] != part:
                continue
            if open_since_line and line["status"] in ("began", "again") and not continues:
                standing = standing.failed("the call was ended while it ran")
            standing = _after(standing, line)
            open_since_line = line["status"] == "began"
        if open_since_line and not continues:
            standing = standing.failed("the call was ended while it ran")
        return standing


def _after(standing: Standing, line: Line) -> Standing:
    status = line["status"]
    if status == "again":
        return Standing()
    if status == "done":
        return Standing(done=True)
    if status == "failed":
        return standing.failed(line["reason"])
    if status == "left out":
        return Standing(False, standing.failures, standing.reason, left_out=True)
    return standing
