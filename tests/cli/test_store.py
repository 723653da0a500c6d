"""`harness store`: what is damaged is named, what is needless can go, how much there is; nothing goes without being asked."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

import harness.cli.arguments
import toys
from conftest import Lab, toy_file
from faults.rig import contents
from harness.api.task import key_of
from harness.benchmark import load_benchmark
from harness.cli.store import store as command
from harness.errors import UserError
from harness.plan.planner import plan
from harness.store import Store


def run(lab: Lab, *words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(command, [*map(str, words), "--store", str(lab.store.root)])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def toys_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.cli.arguments, "open_catalogue", toys.catalogue)


@pytest.fixture
def filled(lab: Lab, tmp_path: Path, toys_installed: None) -> Lab:
    """A lab whose store holds a run of two methods."""
    lab.run(plan(load_benchmark(toy_file(tmp_path, members=2), toys.catalogue())))
    return lab


def test_whole_store_is_said_to_be_whole(filled: Lab) -> None:
    """Everything is read, nothing is reported."""
    assert run(filled, "verify").output == f"{filled.store.root}: 11 objects, nothing damaged\n"
    assert json.loads(run(filled, "verify", "--json").output)["damaged"] == []


def test_damage_is_named_and_set_aside_on_request(filled: Lab) -> None:
    """Objects, states, notes and tasks that changed are named, with what is wrong; what is not the store's stays."""
    first, second, *_ = filled.store.keys()
    path = next(filled.store.path(first).parent.glob("*"))
    path.write_bytes(path.read_bytes()[:-2])
    task = filled.store.root / "tasks" / second[:2] / f"{second}.json"
    task.write_bytes(task.read_bytes().replace(b'"cost"', b'"cast"'))
    notes = next(iter((filled.store.root / "trajectories").glob("*/*")))
    notes.write_text("")
    filled.store.save_training_state(key_of("way"), 3, {}, {"weights": {"a": torch.zeros(2)}})
    os.truncate(next((filled.store.root / "progress").rglob("weights.safetensors")), 4)
    for stranger in ("notes.txt", "objects/notes.txt", "objects/ab/\x1b[31m"):
        (filled.store.root / stranger).parent.mkdir(exist_ok=True)
        (filled.store.root / stranger).write_text("mine")
    said = run(filled, "verify", code=1).output
    assert f"objects/{first[:2]}/{first}: " in said
    assert f"tasks/{second[:2]}/{second}.json: it does not match its digest; a run that needs it writes it anew" in said
    assert f"trajectories/{notes.parent.name}/{notes.name}: 1 lines do not match their digests; they are passed over" in said
    assert "/3: weights.safetensors does not match its digest" in said
    assert "notes.txt: it is not the store's" in said
    assert "objects/ab/\\x1b[31m: it is not the store's" in said
    assert "7 damaged" in said
    assert not list((filled.store.root / "set_aside").iterdir())
    moved = json.loads(run(filled, "verify", "--set-aside", "--json", code=1).output)["damaged"]
    assert sum(bool(damage["set_aside"]) for damage in moved) == 4
    assert len(list((filled.store.root / "set_aside").iterdir())) == 4
    assert run(filled, "verify", code=1).output.count("it is not the store's") == 3
    assert not filled.store.present(first)


def test_prune_keeps_what_benchmarks_need(filled: Lab, tmp_path: Path) -> None:
    """Without --yes nothing goes; with it what no file needs: objects, states and notes of other trainings, what is aside."""
    needed = plan(load_benchmark(toy_file(tmp_path, members=2, methods=["deep"]), toys.catalogue()))
    mine, other = needed.cells[0].members[0].trajectory.key, key_of("other way")  # type: ignore[attr-defined]
    for way in (mine, other):
        filled.store.save_training_state(way, 3, {}, {"weights": {"a": torch.zeros(2)}})
    filled.store.put(key_of("junk"), {"kind": "train"}, {})
    filled.store.record_failure(key_of("junk"), {"message": "no"})
    aside = filled.store.quarantine(key_of("junk"))
    before = contents(filled.store)
    said = run(filled, "prune", tmp_path / "toy.yaml").output
    assert "would be removed; nothing was, --yes removes it" in said
    assert contents(filled.store) == before
    assert aside.exists()
    found = json.loads(run(filled, "prune", tmp_path / "toy.yaml", "--json").output)["needless"]
    assert {entry["kind"] for entry in found} == {
        *("train", "predict", "measure", "progress", "tasks", "trajectories", "failures", "set_aside")
    }
    filled.store = Store(filled.store.root)  # the one that wrote until now is given up
    gc.collect()
    assert "removed" in run(filled, "prune", tmp_path / "toy.yaml", "--yes").output
    assert set(filled.store.keys()) == {key for key in before if key in needed.tasks}
    assert needed.pending(filled.store) == {}
    assert list(filled.store.saved_steps(mine)) == [3]
    assert list(filled.store.saved_steps(other)) == []
    assert not aside.exists()
    assert run(filled, "prune", tmp_path / "toy.yaml").output.endswith("nothing to remove\n")
    assert run(filled, "verify").output.endswith("nothing damaged\n")


def test_prune_keeps_either_precision(filled: Lab, tmp_path: Path) -> None:
    """A file that leaves its precision open was run on a GPU or not: what it needs there stays too."""
    graph = plan(load_benchmark(toy_file(tmp_path), toys.catalogue()), "bf16")
    for key in graph.tasks:
        filled.store.put(key, {"kind": "train"}, {})
    found = json.loads(run(filled, "prune", tmp_path / "toy.yaml", "--json").output)["needless"]
    assert {entry["kind"] for entry in found} == {"measure", "tasks"}  # of metrics that the file does not ask for
    assert not [entry for entry in found for key in graph.tasks if key in entry["path"]]


def test_prune_refuses_what_it_cannot_know(filled: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark whose plugins fail does not say what it needs; one that does not load neither."""

    class Broken(harness.EnsembleBuilder):
        name = "broken"

        def build(self, cell: harness.Cell) -> Any:
            raise RuntimeError("no idea")

    catalogue = toys.catalogue(("ensemble_builder", Broken))
    monkeypatch.setattr(harness.cli.arguments, "open_catalogue", lambda: catalogue)
    toy_file(tmp_path, methods=["deep", "broken"])
    before = contents(filled.store)
    for words in ([tmp_path / "toy.yaml"], [tmp_path / "nowhere.yaml"]):
        done = CliRunner().invoke(command, ["prune", *map(str, words), "--yes", "--store", str(filled.store.root)])
        assert isinstance(done.exception, UserError)
    assert "what it needs cannot be told: method 'broken' on blobs × perceptron: its builder fails" in str(
        CliRunner().invoke(command, ["prune", str(tmp_path / "toy.yaml"), "--store", str(filled.store.root)]).exception
    )
    assert contents(filled.store) == before
    assert "Missing argument 'FILE...'" in CliRunner().invoke(command, ["prune", "--yes"]).output


def test_store_in_use_is_not_pruned(filled: Lab, tmp_path: Path) -> None:
    """While another process has the store open nothing is removed."""
    before = contents(filled.store)
    toy_file(tmp_path, members=2, methods=["deep"])
    other = Store(filled.store.root)
    other.prepare()
    words = ["prune", str(tmp_path / "toy.yaml"), "--yes", "--store", str(filled.store.root)]
    assert "in use by" in str(CliRunner().invoke(command, words).exception)
    assert contents(filled.store) == before


def test_du_counts_by_kind(filled: Lab) -> None:
    """Objects by the kind of task, everything else by its folder; the sum is that of the files."""
    kinds = {entry["kind"]: entry for entry in json.loads(run(filled, "du", "--json").output)["kinds"]}
    assert [kinds[kind]["count"] for kind in ("train", "predict", "measure", "tasks")] == [4, 3, 4, 12]
    files = sum(path.stat().st_size for path in filled.store.root.rglob("*") if path.is_file())
    assert sum(entry["bytes"] for entry in kinds.values()) == files
    text = run(filled, "du").output
    assert text.startswith("kind")
    assert text.endswith(f"{filled.store.root}: {files / 1024:.1f} KiB\n")


def test_no_store_is_a_line(tmp_path: Path) -> None:
    """None is made by looking for it."""
    for words in (["verify"], ["du"], ["prune", "x.yaml"]):
        done = CliRunner().invoke(command, [*words, "--store", str(tmp_path / "none")])
        assert str(done.exception) == f"store {tmp_path / 'none'}: there is none; name its folder with --store"
    assert not (tmp_path / "none").exists()
