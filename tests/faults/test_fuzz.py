"""Random input to the two readers of strangers' files: an end, in time, that is a value or a line; never a traceback.

Here by hypothesis: some hundreds of inputs, and a hundred thousand when asked for (`pytest -m faults`). `fuzz.py` beside this
file does the same guided by coverage, where atheris is installed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from faults.fuzz import read_benchmark, read_store, seeds

FEW, MANY = 150, 100_000
relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)

WORDS = [
    *("name", "seeds", "members", "datasets", "architectures", "methods", "metrics", "objective", "recipe", "settings", "x-a"),
    *("blobs", "perceptron", "deep", "swe", "constrained", "distilled", "fork_epoch", "grid", "label", "epochs", "betas", "<<"),
    *("ensemble_accuracy", "joint_connectivity", "draws", "method_options", "description", "learning_rate", "augmentation"),
]
SIGNS = [
    "\n",
    "\n- ",
    "\n  ",
    ": ",
    ", ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "!!int ",
    "|",
    ">",
    "'",
    '"',
    "#",
    "%",
    "---",
    "?",
    "\t",
]
NUMBERS = ["0", "1", "-1", "1e9", ".inf", ".nan", "9" * 30, "0.1", "null", "true", "no", "\\U0001F4A9", "\x00", "\ud7ff", "а"]
texts = st.lists(st.sampled_from([*WORDS, *SIGNS, *NUMBERS]), max_size=60).map("".join)
yaml_like = st.one_of(
    texts.map(str.encode), st.binary(max_size=200), st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace"))
)


@st.composite
def edited(draw: Any, good: list[bytes]) -> bytes:
    """A good file with pieces cut out, doubled, moved and replaced."""
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 6))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 12))
        piece = draw(st.one_of(st.binary(max_size=6), st.sampled_from([w.encode() for w in (*WORDS, *SIGNS)]), st.just(None)))
        data[at : at + length] = bytes(data[at : at + length] * 2) if piece is None else piece
    return bytes(data)


benchmarks = st.one_of(yaml_like, edited(seeds()["benchmark"]))
stores = st.one_of(st.binary(max_size=400), edited(seeds()["store"]), edited(seeds()["store"]))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for all inputs."""
    made = Path(tempfile.mkdtemp())
    yield made
    shutil.rmtree(made)


def repeat(count: int, strategy: Any, read: Callable[[bytes, Path], None], folder: Path) -> None:
    seen = []

    @seed(2024)
    @settings(relaxed, max_examples=count)
    @given(strategy)
    def once(data: bytes) -> None:
        seen.append(None)
        read(data, folder)

    once()
    assert len(seen) >= count * 0.9


def test_benchmark_files(folder: Path) -> None:
    """Whatever a benchmark file holds, it is a benchmark that can be planned, or an error of distinct lines with places."""
    repeat(FEW, benchmarks, read_benchmark, folder)


def test_files_of_a_store(folder: Path) -> None:
    """Whatever lies where the store's files lie, reading ends with `DamagedObject`, `StoreError` or a value."""
    repeat(FEW, stores, read_store, folder)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("strategy", "read"), [(benchmarks, read_benchmark), (stores, read_store)], ids=["benchmark", "store"])
def test_a_hundred_thousand(folder: Path, strategy: Any, read: Callable[[bytes, Path], None]) -> None:
    """The same, a hundred thousand times each."""
    repeat(MANY, strategy, read, folder)
