"""One call of `benchmarks/gpu.py`: runs the parts that are due within a time. Imports the standard library alone."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import os
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_journal import MAX_FAILURES, Journal, Status
from gpu_parts import DEVICE_IS_LOST, ROOT, TIME_IS_OVER, Call, Part
from gpu_process import Ending, run_limited
from gpu_rates import compared
from gpu_wheels import install_command
from json_lines import append_line

MAX_FILE_BYTES = 16 * 2**20

_ENDING_SECONDS = 5.0  # kept free at the end of a call
_PACK_EVERY_SECONDS = 15.0
_NEEDED = ("pydantic", "platformdirs", "filelock", "pluggy", "click", "timm")


class Slot:
    """One call: runs parts until its time is over."""

    def __init__(self, call: Call, end: float) -> None:
        self._call = call
        self._end = end
        self._output = call.out / "output.txt"
        self._packed_at = 0.0
        self._journal = Journal(call.out / "gpu.jsonl")
        self.summary = ["", f"{'part':22s} {'result':12s} seconds  reason"]

    def install(self, wheels: Path) -> bool:
        """Install the project and what it needs from wheels, unless it is there; return whether it can be used."""
        if _is_installed():
            return True
        ending = self._execute(Part("wheels", lambda call, seconds: install_command(wheels), 120), self._seconds_left())
        self._journal.write("wheels", "done" if ending.code == 0 else "failed", reason=ending.last_line)
        print(f"wheels: {ending.last_line}", flush=True)
        return ending.code == 0

    def again(self, part: Part) -> None:
        """Make a part due, whatever it has done before; all rungs of the ladder's group are measured again."""
        self._journal.write(part.name, "again")
        if part.group:
            append_line(self._call.ladder, {"group": part.group, "status": "again"})

    def run(self, part: Part) -> None:
        """Run a part if it is due and fits into the time left; write how it ended."""
        standing = self._journal.standing(part.name, part.continues)
        if standing.done or standing.left_out:
            self._report(part, "done before" if standing.done else "left out", 0, standing.reason)
        elif standing.failures >= MAX_FAILURES:
            self._write_end(part, "left out", 0, f"failed {standing.failures} times: {standing.reason}")
        elif part.needs_data and not _has_data(self._call):
            self._write_end(part, "skipped", 0, "there is no data: set HARNESS_DATA or --data to the data root")
        elif self._seconds_left() < self._least(part):
            self._report(part, "not begun", 0, f"{max(self._seconds_left(), 0):.0f} s left of the call; needs {part.least:g} s")
        else:
            self._run(part)

    def _run(self, part: Part) -> None:
        limit = min(self._limit(part), self._seconds_left())
        self._journal.write(part.name, "began", limit=round(limit))
        ending = self._execute(part, limit)
        facts: dict[str, Any] = {}
        if part.folder:
            self._pack(part)
            facts = compared(self._call.scratch / part.folder, self._call.images, self._call.ladder)
        cut_off = limit < self._limit(part)
        status, reason = status_of(part, ending, limit, cut_off=cut_off)
        self._write_end(part, status, ending.seconds, reason, code=ending.code, **facts)
        if ending.code == DEVICE_IS_LOST:
            self.run(part)

    def _execute(self, part: Part, limit: float) -> Ending:
        self._roll_output()
        with self._output.open("a", encoding="utf-8") as file:
            file.write(f"\n===== {part.name}, {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC\n")
        print(f"{part.name}: at most {limit:.0f} s …", flush=True)
        command = part.command(self._call, limit)
        return run_limited(command, _environment(self._call), self._output, limit, lambda: self._pack_now_and_then(part))

    def _seconds_left(self) -> float:
        return self._end - time.monotonic() - _ENDING_SECONDS

    def _least(self, part: Part) -> float:
        return 1.0 if self._call.tiny else part.least

    def _limit(self, part: Part) -> float:
        """Return the seconds that a part may take; ten times as many in a rehearsal, on whatever machine it is."""
        return 10 * part.limit if self._call.tiny else part.limit

    def _write_end(self, part: Part, status: Status, seconds: float, reason: str, **facts: Any) -> None:
        self._journal.write(part.name, status, seconds=round(seconds, 1), reason=reason, **facts)
        self._report(part, status, seconds, reason)

    def _report(self, part: Part, status: str, seconds: float, reason: str) -> None:
        print(f"{part.name}: {status} {reason}".rstrip(), flush=True)
        self.summary.append(f"{part.name:22s} {status:12s} {seconds:7.1f}  {reason}"[:160].rstrip())

    def _pack_now_and_then(self, part: Part) -> None:
        if part.folder and time.monotonic() - self._packed_at > _PACK_EVERY_SECONDS:
            self._pack(part)
            self._packed_at = time.monotonic()

    def _pack(self, part: Part) -> None:
        """Bring rows, events and profile of a run, and the tracebacks of tasks that failed."""
        folders = [part.folder, "store/failures"]
        pack(self._call.scratch, folders, self._call.out / f"{part.name}.tar.gz")

    def _roll_output(self) -> None:
        """Compress the file of outputs if another part's output might make it larger than 16 MiB."""
        if not self._output.exists() or self._output.stat().st_size < MAX_FILE_BYTES - 2 * 2**20:
            return
        with gzip.open(self._call.out / "output-earlier.txt.gz", "ab") as file:
            file.write(self._output.read_bytes())
        self._output.unlink()


def status_of(part: Part, ending: Ending, limit: float, *, cut_off: bool) -> tuple[Status, str]:
    """Return the status of a part that has ended, and the reason if it is not done.

    `cut_off` says that `limit` was the end of the call, not the part's own limit.
    """
    if ending.code == 0 and not ending.timed_out:
        return "done", ""
    if ending.code == DEVICE_IS_LOST:
        return "unfinished", ending.last_line
    if part.continues and (ending.timed_out or ending.code in TIME_IS_OVER):
        return "unfinished", "goes on in the next call"
    if not ending.timed_out:
        return "failed", f"exit code {ending.code}: {ending.last_line}"
    if cut_off:
        return "unfinished", f"the call's time was over after {limit:.0f} s"
    return "failed", f"took longer than {limit:.0f} s: {ending.last_line}"


def pack(root: Path, folders: Sequence[str], target: Path) -> None:
    """Write the files of folders under a root to an archive; the largest are left out if all are more than 15 MiB together.

    The archive is replaced as a whole, so that it is complete if the process is killed meanwhile.
    """
    room = MAX_FILE_BYTES - 2**20
    aside = root / target.name
    with tarfile.open(aside, "w:gz") as archive:
        for size, path in _files([root / folder for folder in folders]):
            room -= size + 1024  # of the header
            if room > 0:
                archive.add(path, path.relative_to(root))
    replacement = target.with_suffix(".new")
    replacement.write_bytes(aside.read_bytes())
    replacement.replace(target)


def _files(folders: Sequence[Path]) -> list[tuple[int, Path]]:
    """Return the sizes and paths of the files in folders, the smallest first."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                found.append((path.stat().st_size, path))
    return sorted(found)


def _is_installed() -> bool:
    """Return whether the project's plugins and the packages that a machine for torch may lack are there."""
    try:
        importlib.metadata.version("basin-harness")
    except importlib.metadata.PackageNotFoundError:
        return False
    return all(importlib.util.find_spec(name) for name in _NEEDED)


def _has_data(call: Call) -> bool:
    if call.data is None:
        return False
    return any((call.data / name).exists() for name in ("cifar-10-batches-py", "cifar-10-python.tar.gz"))


def _environment(call: Call) -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(call.scratch / "inductor"),
        "TRITON_CACHE_DIR": str(call.scratch / "triton"),
    }
