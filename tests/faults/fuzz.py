"""Functions that read a random input. Run as a program, this file is a fuzzer guided by coverage:

    python tests/faults/fuzz.py benchmark -atheris_runs=100000
    python tests/faults/fuzz.py store -atheris_runs=100000

It needs atheris (`pip install atheris`); its arguments are those of libFuzzer.
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

MAX_SECONDS = 10.0  # of CPU time per input
KEY = "ab" * 32


@functools.cache
def catalogue() -> Any:
    """Return the catalogue of toys, whose data sets need no files."""
    import toys

    return toys.catalogue()


def read_benchmark(data: bytes, folder: Path) -> None:
    """Load an input as a benchmark file, and plan it if it is valid and small.

    Any error but a `BenchmarkError` of distinct lines is raised.
    """
    from harness.benchmark import load_benchmark
    from harness.errors import BenchmarkError
    from harness.plan.planner import plan

    path = folder / "b.yaml"
    path.write_bytes(data)
    start = time.process_time()
    problems: tuple[str, ...] = ()
    try:
        benchmark = load_benchmark(path, catalogue())
        count = sum(1 for _ in benchmark.cells())
        if count * benchmark.members <= 200:
            plan(benchmark)
    except BenchmarkError as error:
        problems = error.problems
        assert problems
    assert len(set(problems)) == len(problems)
    for line in problems:
        assert line.startswith(str(path))
        assert len(line.splitlines()) == 1
    assert time.process_time() - start < MAX_SECONDS


def read_store(data: bytes, folder: Path) -> None:
    """Write an input over the files of a store, as it is and with valid digests, and read all that a store can read.

    Any error but `DamagedObject` and `StoreError` is raised.
    """
    from harness.errors import DamagedObject, StoreError
    from harness.store import Store

    store = Store(folder / "store")
    start = time.process_time()
    for forged in (dict.fromkeys(("part", "meta", "task", "notes"), data), with_digests(data)):
        write_files(folder / "store", store.path(KEY), forged)
        for read in (store.has, store.meta, store.tensors, store.verify, store.read_task, store.resolve, store.epochs):
            with contextlib.suppress(DamagedObject, StoreError):
                read(KEY)
        with contextlib.suppress(DamagedObject, StoreError):
            store.training_states.load(KEY, 3)
        list(store.maintenance.find_corruption())
        store.maintenance.usage()
    assert time.process_time() - start < MAX_SECONDS


def write_files(root: Path, part: Path, forged: dict[str, bytes]) -> None:
    """Write an object, the training state at step 3, a task and the notes of a trajectory, all under one key."""
    state = root / "progress" / KEY[:2] / KEY / "3"
    files = {
        part: forged["part"],
        part.with_name("meta.json"): forged["meta"],
        state / part.name: forged["part"],
        state / "meta.json": forged["meta"],
        root / "tasks" / KEY[:2] / f"{KEY}.json": forged["task"],
        root / "trajectories" / KEY[:2] / KEY: forged["notes"],
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def with_digests(data: bytes) -> dict[str, bytes]:
    """Return files with valid digests, made of an input.

    The bytes 0xff, which no text has, divide an input into the JSON of metadata and of a task, the header of a safetensors
    file, and its tensors. An input without them is the whole file of weights too.
    """
    text, *packed = data.split(b"\xff", 2)
    part = len(packed[0]).to_bytes(8, "little") + b"".join(packed) if packed else data
    fields = _fields(text)
    files = {"weights": {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}}
    lines = [_with_line_digest(line) for line in text.split(b"\n")]
    return {
        "part": part,
        "meta": _with_digest({"key": KEY, "step": 3, "kind": "train", "files": files, **fields}) or text,
        "task": _with_digest({"key": KEY, "kind": "train", "spec": {}, **fields}, "task") or text,
        "notes": b"".join(lines),
    }


def _fields(text: bytes) -> dict[str, Any]:
    """Return the fields that a text of JSON gives to an object; a value that is no mapping becomes the field `files`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"files": value}


def _with_digest(body: dict[str, Any], inside: str = "") -> bytes:
    """Return JSON with its valid digest: in the mapping or, if `inside` is given, beside the mapping under this name.

    Return no bytes for what cannot be written as JSON.
    """
    from harness.api.task import canonical_json

    with contextlib.suppress(ValueError, RecursionError):
        digest = hashlib.sha256(canonical_json(body).encode()).hexdigest()
        signed = {inside: body, "sha256": digest} if inside else {**body, "sha256": digest}
        return json.dumps(signed).encode()
    return b""


def _with_line_digest(line: bytes) -> bytes:
    """Return a line of a trajectory's notes with its valid digest."""
    return line + b" " + hashlib.sha256(KEY.encode() + b" " + line).hexdigest()[:16].encode() + b"\n"


def seeds() -> dict[str, list[bytes]]:
    """Return valid inputs by the name of the reader."""
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    checkpoint = b'{"kind":"train","optimizer_steps":3,"history":[{"epoch":1}]}\xff' + header + b"\xff" + bytes(4)
    files = b'{"files":{"weights":{"bytes":1,"sha256":"' + b"0" * 64 + b'"}}}'
    notes = b"1 " + KEY.encode() + b"\n3 " + KEY.encode() + b"\nend 2"
    values = b'{"values":[{"metric":"a","value":1.5,"standard_error":null,"unit":"","better":""}]}'
    benchmark = b"name: toy\nseeds: [0]\nmembers: 2\ndatasets: [blobs]\narchitectures: [perceptron]\n"
    benchmark += b"methods: [deep, {swe: {floor: 1}}]\nmetrics: [ensemble_accuracy]\n"
    benchmark += b"recipe: {epochs: 3}\nsettings: [{dataset: blobs, recipe: {epochs: 2}}]\n"
    return {
        "benchmark": [benchmark],
        "store": [checkpoint, files, notes, values, len(header).to_bytes(8, "little") + header + bytes(4)],
    }


def main() -> None:
    """Fuzz the reader that the first argument names."""
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
    folder = Path(tempfile.mkdtemp())
    corpus = Path(tempfile.mkdtemp())
    for number, seed in enumerate(seeds()[name]):
        (corpus / str(number)).write_bytes(seed)
    catalogue()
    atheris.Setup([*sys.argv, str(corpus)], lambda data: read(data, folder))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
