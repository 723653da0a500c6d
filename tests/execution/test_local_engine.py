"""What the local engine gives its worker processes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from harness.execution.engines.worker_process import worker_environment

TEN_BLOCKS = """
import resource, numpy
numpy.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    numpy.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides by itself")
def test_worker_keeps_the_memory_that_it_has_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a large block come from the system once, not again for every block that follows."""
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    faults = [
        int(subprocess.run([sys.executable, "-c", TEN_BLOCKS], env=env, capture_output=True, check=True).stdout)
        for env in (worker_environment(1), dict(os.environ))
    ]
    assert faults[0] < faults[1] / 5


def test_worker_has_its_threads_and_what_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of threads is part of the numerics, so it is ours; how memory is kept is the user's, where he said so."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    environment = worker_environment(2)
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "131072"
    assert int(environment["MALLOC_MMAP_THRESHOLD_"]) >= 2**30
