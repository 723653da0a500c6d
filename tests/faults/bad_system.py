"""Processes on a machine of another name, on file systems without locks or with locks of each machine, and on full disks.

`bad_system.c` is preloaded into processes; it needs a C compiler and Linux. Two mounts of one folder by bindfs are like two
clients of a network file system: by default the kernel keeps the locks of each mount apart, and with an option they are shared.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("bad_system.c")


def preloaded(folder: Path, **faults: str | int) -> dict[str, str]:
    """Compile the library into a folder; return the variables with which a process has some faults, such as BAD_FLOCK=37."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux")
    library = folder / "bad_system.so"
    if not library.exists():
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), **{name: str(value) for name, value in faults.items()}}


@contextlib.contextmanager
def two_mounts(folder: Path, *, shared_locks: bool, remember: float = 0.0) -> Iterator[tuple[Path, Path]]:
    """Mount a new folder twice within the block; skip the test where that is impossible.

    Each mount remembers for some seconds that a name does not exist, as clients of NFS do.
    """
    bindfs, unmount = shutil.which("bindfs"), shutil.which("fusermount3") or shutil.which("fusermount")
    if bindfs is None or unmount is None:
        pytest.skip("bindfs is not installed")
    source = folder / "exported"
    source.mkdir()
    options = ["-o", f"negative_timeout={remember:g}"]
    if shared_locks:
        options += ["--enable-lock-forwarding", "--multithreaded"]
    mounted = []
    try:
        for name in ("mounted-here", "mounted-there"):
            place = folder / name
            place.mkdir()
            done = subprocess.run([bindfs, *options, source, place], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"bindfs cannot mount: {done.stderr.strip()}")
            mounted.append(place)
        yield mounted[0], mounted[1]
    finally:
        for place in mounted:
            subprocess.run([unmount, "-u", "-z", place], check=True)


HELD_RUN = """
import sys, time
from pathlib import Path
import harness

def hold(event):
    Path("held").touch()
    while isinstance(event, harness.events.EpochEnded) and not Path("go").exists():
        time.sleep(0.05)

harness.run("small.yaml", out=sys.argv[1], store=sys.argv[2], workers=1, progress=False, observers={"hold": hold})
"""
"""A run that stops after its first epoch until there is a file `go`."""


def start_python(folder: Path, *words: str | Path, faults: dict[str, str]) -> subprocess.Popen[str]:
    """Start Python in a folder, with variables of `preloaded`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **faults}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *words], cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)
