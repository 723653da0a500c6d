"""What the fuzzers do with an input; run by itself, a fuzzer guided by coverage:

    python tests/faults/fuzz.py benchmark -runs=100000
    python tests/faults/fuzz.py store -runs=100000

It needs atheris (`pip install atheris`); arguments are libFuzzer's.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

_SECONDS = 10.0  # more than any input may take
KEY = "ab" * 32


@functools.cache
def catalogue() -> Any:
    """The toys, without data sets that would have to be read."""
    import toys

    return toys.catalogue()


def read_benchmark(data: bytes, folder: Path) -> None:
    """Load a benchmark file, and plan it if it is one; anything but a `BenchmarkError` of distinct lines escapes."""
    from harness.benchmark import load_benchmark
    from harness.errors import BenchmarkError
    from harness.graph import plan

    path = folder / "b.yaml"
    path.write_bytes(data)
    began = time.process_time()
    problems: tuple[str, ...] = ()
    try:
        benchmark = load_benchmark(path, catalogue())
        if sum(1 for _ in benchmark.cells()) * benchmark.members <= 200:
            plan(benchmark)
    except BenchmarkError as error:
        problems = error.problems
        assert problems
    assert len(set(problems)) == len(problems)
    assert all(line.startswith(str(path)) and len(line.splitlines()) == 1 for line in problems)
    assert time.process_time() - began < _SECONDS


def read_store(data: bytes, folder: Path) -> None:
    """Put bytes where a store's files lie, as they are and with digests that fit, and read everything that there is to read."""
    from harness.errors import DamagedObject, StoreError
    from harness.store import Store, damages, holdings

    store = Store(folder / "store")
    part, meta, task, notes, state = (
        store.path(KEY),
        store.path(KEY).with_name("meta.json"),
        *(folder / "store" / room / KEY[:2] / name for room, name in (("tasks", f"{KEY}.json"), ("trajectories", KEY))),
        folder / "store" / "progress" / KEY[:2] / KEY / "3" / "meta.json",
    )
    for path in (part, task, notes, state):
        path.parent.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    for forged in (data, fitting(data)):
        part.write_bytes(data)
        for path in (meta, task, notes, state):
            path.write_bytes(forged)
        for read in (store.has, store.meta, store.tensors, store.verify, store.read_task, store.resolve, store.epochs):
            with contextlib.suppress(DamagedObject, StoreError):
                read(KEY)
        with contextlib.suppress(DamagedObject, StoreError):
            store.load_progress(KEY, 3)
        list(damages(store))
        holdings(store)
    assert time.process_time() - began < _SECONDS


def fitting(data: bytes) -> bytes:
    """Return meta-data whose digests fit: of an object with these bytes as weights, and what they say, if they are JSON."""
    from harness.task import canonical_json

    body: dict[str, Any] = {"key": KEY, "step": 3, "kind": "train"}
    body["files"] = {"weights": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
    with contextlib.suppress(ValueError, RecursionError):
        given = json.loads(data)
        body |= given if isinstance(given, dict) else {"files": given}
    try:
        return json.dumps({**body, "sha256": hashlib.sha256(canonical_json(body).encode()).hexdigest()}).encode()
    except (ValueError, RecursionError):
        return data


def main() -> None:
    """Fuzz one of the readers."""
    import tempfile

    import atheris  # type: ignore[import-not-found]

    sys.path.insert(0, str(Path(__file__).parent.parent))
    read = {"benchmark": read_benchmark, "store": read_store}[sys.argv.pop(1)]
    with atheris.instrument_imports(include=["harness", "yaml", "json"]):
        import yaml  # noqa: F401

        import harness.benchmark
        import harness.graph
        import harness.store  # noqa: F401
    folder = Path(tempfile.mkdtemp())
    catalogue()
    atheris.Setup(sys.argv, lambda data: read(data, folder))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
