"""What the fuzzers do with an input; run by itself, a fuzzer guided by coverage:

    python tests/faults/fuzz.py benchmark -atheris_runs=100000
    python tests/faults/fuzz.py store -atheris_runs=100000

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
    from harness.plan.planner import plan

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
    from harness.store import Store

    store = Store(folder / "store")
    part, notes = store.path(KEY), folder / "store" / "trajectories" / KEY[:2] / KEY
    meta, state = part.with_name("meta.json"), folder / "store" / "progress" / KEY[:2] / KEY / "3" / "meta.json"
    task, kept = folder / "store" / "tasks" / KEY[:2] / f"{KEY}.json", state.with_name(part.name)
    began = time.process_time()
    for forged in (dict.fromkeys(("part", "meta", "task", "notes"), data), fitting(data)):
        for path, what in ((part, "part"), (kept, "part"), (meta, "meta"), (state, "meta"), (task, "task"), (notes, "notes")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(forged[what])
        for read in (store.has, store.meta, store.tensors, store.verify, store.read_task, store.resolve, store.epochs):
            with contextlib.suppress(DamagedObject, StoreError):
                read(KEY)
        with contextlib.suppress(DamagedObject, StoreError):
            store.load_training_state(KEY, 3)
        list(store.maintenance.find_corruption())
        store.maintenance.usage()
    assert time.process_time() - began < _SECONDS


def fitting(data: bytes) -> dict[str, bytes]:
    """Return files whose digests fit, made of an input's parts, which bytes that no text holds part: what meta-data and a task
    say, the header of a safetensors file, its tensors. One part alone is a whole file of weights, and whatever else it can be.
    """
    said, *packed = data.split(b"\xff", 2)
    part = len(packed[0]).to_bytes(8, "little") + b"".join(packed) if packed else data
    given: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        given = json.loads(said)
    more = given if isinstance(given, dict) else {} if given is None else {"files": given}
    files = {"weights": {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}}
    return {
        "part": part,
        "meta": _signed({"key": KEY, "step": 3, "kind": "train", "files": files, **more}) or said,
        "task": _signed({"key": KEY, "kind": "train", "spec": {}, **more}, "task") or said,
        "notes": b"".join(map(_noted, said.split(b"\n"))),
    }


def _signed(body: dict[str, Any], inside: str = "") -> bytes:
    """Return JSON with the digest that fits, in it or, under a name, beside it; nothing for what cannot be JSON."""
    from harness.api.task import canonical_json

    with contextlib.suppress(ValueError, RecursionError):
        digest = hashlib.sha256(canonical_json(body).encode()).hexdigest()
        return json.dumps({inside: body, "sha256": digest} if inside else {**body, "sha256": digest}).encode()
    return b""


def _noted(line: bytes) -> bytes:
    """Return a line of a trajectory's notes with the digest that fits."""
    return line + b" " + hashlib.sha256(KEY.encode() + b" " + line).hexdigest()[:16].encode() + b"\n"


def seeds() -> dict[str, list[bytes]]:
    """Return files as they should be, of both kinds, to begin with."""
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    whole = b'{"kind":"train","optimizer_steps":3,"history":[{"epoch":1}]}\xff' + header + b"\xff" + bytes(4)
    files = b'{"files":{"weights":{"bytes":1,"sha256":"' + b"0" * 64 + b'"}}}'
    notes = b"1 " + KEY.encode() + b"\n3 " + KEY.encode() + b"\nend 2"
    values = b'{"values":[{"metric":"a","value":1.5,"standard_error":null,"unit":"","better":""}]}'
    good = b"name: toy\nseeds: [0]\nmembers: 2\ndatasets: [blobs]\narchitectures: [perceptron]\n"
    good += b"methods: [deep, {swe: {floor: 1}}]\nmetrics: [ensemble_accuracy]\n"
    more = b"recipe: {epochs: 3}\nsettings: [{dataset: blobs, recipe: {epochs: 2}}]\n"
    return {
        "benchmark": [good + more],
        "store": [whole, files, notes, values, len(header).to_bytes(8, "little") + header + bytes(4)],
    }


def main() -> None:
    """Fuzz one of the readers."""
    import tempfile

    import atheris  # type: ignore[import-not-found]

    sys.path.insert(0, str(Path(__file__).parent.parent))
    name = sys.argv.pop(1)
    read = {"benchmark": read_benchmark, "store": read_store}[name]
    with atheris.instrument_imports(include=["harness", "yaml", "json"]):
        import yaml  # noqa: F401

        import harness.benchmark
        import harness.plan.graph
        import harness.store  # noqa: F401
    folder, corpus = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    for number, seed in enumerate(seeds()[name]):
        (corpus / str(number)).write_bytes(seed)
    catalogue()
    atheris.Setup([*sys.argv, str(corpus)], lambda data: read(data, folder))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
