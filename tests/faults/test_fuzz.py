"""Random input to the readers of untrusted files: each ends in time, with a value or a known error.

Hypothesis draws some hundred inputs, and a hundred thousand with `pytest -m faults`. `fuzz.py` beside this file does the same
guided by coverage, if atheris is installed.
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

FEW = 150
MANY = 100_000
relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)

WORDS = [
    *("name", "seeds", "members", "datasets", "architectures", "methods", "metrics", "objective", "recipe", "settings", "x-a"),
    *("blobs", "perceptron", "deep", "swe", "constrained", "distilled", "fork_epoch", "grid", "label", "epochs", "betas", "<<"),
    *("ensemble_accuracy", "joint_connectivity", "draws", "method_options", "description", "learning_rate", "augmentation"),
]
SIGNS = ["\n", "\n- ", "\n  ", ": ", ", ", *"[]{}", "&a ", "*a", "!!int ", *"|>'\"#%", "---", "?", "\t"]
NUMBERS = ["0", "1", "-1", "1e9", ".inf", ".nan", "9" * 30, "0.1", "null", "true", "no", "\\U0001F4A9", "\x00", "\ud7ff", "а"]
texts = st.lists(st.sampled_from([*WORDS, *SIGNS, *NUMBERS]), max_size=60).map("".join)
yaml_like = st.one_of(
    texts.map(str.encode), st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)
tokens = [word.encode() for word in (*WORDS, *SIGNS)]
pieces = st.one_of(st.binary(max_size=6), st.sampled_from(tokens), st.just(None))


@st.composite
def edited(draw: Any, valid: list[bytes]) -> bytes:
    """Draw a valid file with pieces removed, doubled and replaced."""
    data = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 12))
        piece = draw(pieces)
        if piece is None:
            piece = bytes(data[at : at + length] * 2)
        data[at : at + length] = piece
    return bytes(data)


benchmarks = st.one_of(yaml_like, edited(seeds()["benchmark"]))
stores = st.one_of(st.binary(max_size=400), edited(seeds()["store"]), edited(seeds()["store"]))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for the files of all inputs."""
    made = Path(tempfile.mkdtemp())
    yield made
    shutil.rmtree(made)


def repeat(count: int, strategy: Any, read: Callable[[bytes, Path], None], folder: Path) -> None:
    """Read about `count` inputs of a strategy."""
    calls = 0

    @seed(2024)
    @settings(relaxed, max_examples=count)
    @given(strategy)
    def once(data: bytes) -> None:
        nonlocal calls
        calls += 1
        read(data, folder)

    once()
    assert calls >= count * 0.9


def test_benchmark_files(folder: Path) -> None:
    """A file is either a benchmark that can be planned, or an error of distinct lines that name the file."""
    repeat(FEW, benchmarks, read_benchmark, folder)


def test_files_of_a_store(folder: Path) -> None:
    """Reading a store of arbitrary files ends with a value, `DamagedObject` or `StoreError`."""
    repeat(FEW, stores, read_store, folder)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("strategy", "read"), [(benchmarks, read_benchmark), (stores, read_store)], ids=["benchmark", "store"])
def test_hundred_thousand_inputs(folder: Path, strategy: Any, read: Callable[[bytes, Path], None]) -> None:
    """A hundred thousand inputs of each kind satisfy the same."""
    repeat(MANY, strategy, read, folder)
