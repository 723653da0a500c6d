"""Untrusted files in a store: no name leaves the store, no code in a file runs, and no size fills the memory."""

from __future__ import annotations

import os
import pickle
import re
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Lab
from faults.forged_objects import described, forge
from faults.odd_names import NAMES
from harness.api.task import key_of
from harness.errors import DamagedObject, StoreError
from harness.plan.graph import Graph
from harness.store import Store, objects
from harness.telemetry.events import ObjectQuarantined

GraphOf = Callable[..., Graph]
KEY = key_of("one")


@pytest.mark.parametrize("case", NAMES)
def test_name_that_is_no_key(tmp_path: Path, case: str) -> None:
    """It is refused as a key and as the name of a part, and no path outside of the store is created."""
    store = Store(tmp_path / "store")
    name = NAMES[case]
    store.put(KEY, {}, {"weights": {"a": torch.zeros(1)}})
    for use in (store.has, store.meta, store.tensors, store.path, store.quarantine, store.epochs, store.failure):
        with pytest.raises(ValueError, match="is not a key"):
            use(name)
    for use in (lambda: store.put(name, {}), lambda: store.record_failure(name, {}), lambda: store.write_task(name, {})):
        with pytest.raises(ValueError, match="is not a key"):
            use()
    with pytest.raises(ValueError, match="is not a key"), store.lease(name):
        pass
    with pytest.raises(ValueError, match="is not the name of a part"):
        store.path(KEY, f"../{name}" if case == "short" else name)
    with pytest.raises(ValueError, match="is not the name of a part"):
        store.put(key_of("two"), {}, {f"{name}!": {"a": torch.zeros(1)}})
    with pytest.raises(StoreError) as caught:
        store.resolve(name)
    assert str(caught.value).isprintable()
    assert {path.name for path in tmp_path.iterdir()} == {"store"}
    assert not store.has(key_of("two"))


class RunsCode:
    """An object whose unpickling creates a file in the working folder."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch unpickled",)


PICKLE = pickle.dumps(RunsCode())
FORGED: dict[str, tuple[Any, dict[str, bytes]]] = {
    "not json": (b"{", {}),
    "a list": (b"[]", {}),
    "nested without end": (b"[" * 100_000, {}),
    "nested objects": (b'{"a":' * 100_000, {}),
    "a huge number": (b'{"sha256": ' + b"9" * 10_000 + b"}", {}),
    "nan": (b'{"sha256": "", "key": NaN, "files": {}}', {}),
    "not utf-8": (b"\xff\xfe\x00", {}),
    "another key": ({"key": key_of("two")}, {}),
    "no files": ({"files": None}, {}),
    "files as a list": ({"files": ["weights"]}, {}),
    "a part outside": ({"files": {"../../../../etc/passwd": described(b"")}}, {}),
    "a part with a device": ({"files": {"con.": described(b"")}}, {}),
    "a size that is no number": ({"files": {"weights": {"bytes": "1", "sha256": "0" * 64}}}, {}),
    "a negative size": ({"files": {"weights": {"bytes": -1, "sha256": "0" * 64}}}, {}),
    "a size beyond memory": ({"files": {"weights": {"bytes": 1 << 60, "sha256": "0" * 64}}}, {"weights.safetensors": b"x"}),
    "a pickle for weights": ({"files": {"weights": described(PICKLE)}}, {"weights.safetensors": PICKLE}),
    "a header beyond memory": (
        {"files": {"weights": described(b"\xff" * 64)}},
        {"weights.safetensors": b"\xff" * 64},
    ),
    "a header that lies": (
        {"files": {"weights": described(b"\x08" + b"\x00" * 7 + b'{"a":{}}')}},
        {"weights.safetensors": b"\x08" + b"\x00" * 7 + b'{"a":{}}'},
    ),
    "nothing for weights": ({"files": {"weights": described(b"")}}, {"weights.safetensors": b""}),
}


@pytest.mark.parametrize("case", FORGED)
def test_invalid_object_with_valid_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """It is refused within five seconds with a one-line error, and no code in it runs."""
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "store")
    meta, files = FORGED[case]
    forge(store, KEY, meta, files)
    start = time.monotonic()
    with pytest.raises(DamagedObject) as caught:
        store.tensors(KEY)
    assert "\n" not in str(caught.value)
    store.has(KEY)
    list(store.maintenance.find_corruption())
    assert time.monotonic() - start < 5
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("file", ["meta.json", "weights.safetensors"])
@pytest.mark.parametrize("what", ["pipe", "device", "loop", "folder", "sparse"])
def test_file_that_is_not_regular(tmp_path: Path, file: str, what: str) -> None:
    """It is not read, since a pipe would block, a device would not end, and a sparse file would fill the memory."""
    store = Store(tmp_path)
    store.put(KEY, {}, {"weights": {"a": torch.zeros(1)}})
    path = store.path(KEY).parent / file
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "loop":
        path.symlink_to(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 1 << 40)
    assert not store.has(KEY)
    with pytest.raises(DamagedObject, match=re.escape(file)):
        store.tensors(KEY)
    assert store.damage_reason(KEY).startswith(f"{file} ")


def test_metadata_that_is_too_large(tmp_path: Path) -> None:
    """It is refused by its size, without reading it."""
    store = Store(tmp_path)
    forge(store, KEY, b" " * (objects.MAX_META + 1))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedObject, match=r"meta\.json"):
            store.meta(KEY)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", [10**400, "one", None, [], {}])
def test_measurement_without_a_number(graph_of: GraphOf, lab: Lab, value: Any) -> None:
    """It is quarantined and measured again."""
    graph = graph_of(methods=["deep"], metrics=["ensemble_accuracy"])
    lab.run(graph)
    rows = (lab.out / "results.csv").read_bytes()
    key = graph.cells[0].measures["ensemble_accuracy"].key
    stored = {"metric": "ensemble_accuracy", "value": value, "standard_error": None, "unit": "", "better": ""}
    forge(lab.store, key, {"kind": "measure", "values": [stored]})
    lab.events.clear()
    lab.run(graph)
    assert (lab.out / "results.csv").read_bytes() == rows
    assert [event.key for event in lab.events if isinstance(event, ObjectQuarantined)] == [key]


@pytest.mark.parametrize("key", ["", "x", "../../../etc/passwd", "A" * 64, "0" * 65])
def test_notes_of_a_name_that_is_no_key(tmp_path: Path, key: str) -> None:
    """Notes of a trajectory with valid digests are not used, and are reported as damaged."""
    store = Store(tmp_path)
    store.note_epoch(KEY, 1, key)
    assert store.epochs(KEY) == {}
    assert [damage.path for damage in store.maintenance.find_corruption()] == [f"trajectories/{KEY[:2]}/{KEY}"]
