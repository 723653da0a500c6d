"""The environment variables of the local engine's worker processes."""

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
def test_allocation_of_large_blocks_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freed memory is kept: ten blocks cause less than a fifth of the page faults that they cause by default."""
    for name in list(os.environ):
        if name.startswith("MALLOC_"):
            monkeypatch.delenv(name)
    assert page_faults(worker_environment(1)) < page_faults(dict(os.environ)) / 5


def page_faults(environment: dict[str, str]) -> int:
    """Return the number of page faults of a process that allocates ten large blocks."""
    done = subprocess.run([sys.executable, "-c", TEN_BLOCKS], env=environment, capture_output=True, check=True)
    return int(done.stdout)


def test_variables_that_the_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of threads is replaced, since numbers depend on it; the user's settings of malloc are kept."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    environment = worker_environment(2)
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "131072"
    assert int(environment["MALLOC_MMAP_THRESHOLD_"]) >= 2**30
