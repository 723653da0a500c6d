"""`harness store`: verify, prune and measure a store; nothing is removed without `--yes`."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

import harness
import toys
from conftest import Lab, toy_file
from faults.rig import contents
from harness.api.task import key_of
from harness.benchmark import load_benchmark
from harness.cli.store import store as command
from harness.errors import UserError
from harness.plan.planner import plan
from harness.registry.catalogue import Catalogue
from harness.store import Store


def invoke(lab: Lab, *words: object, catalogue: Catalogue | None = None) -> Result:
    """Return the result of `harness store WORDS` on the lab's store, with the toys installed."""
    plugins = catalogue or toys.catalogue()
    return CliRunner().invoke(command, [*map(str, words), "--store", str(lab.store.root)], obj=plugins)


def run(lab: Lab, *words: object, code: int = 0) -> Result:
    """Return the same, its exit code checked."""
    done = invoke(lab, *words)
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def filled(lab: Lab, tmp_path: Path) -> Lab:
    """A lab whose store holds a run of two methods."""
    lab.run(plan(load_benchmark(toy_file(tmp_path, members=2), toys.catalogue())))
    return lab


def test_verify_an_intact_store(filled: Lab) -> None:
    """Nothing is reported."""
    assert run(filled, "verify").output == f"{filled.store.root}: 11 objects, nothing damaged\n"
    assert json.loads(run(filled, "verify", "--json").output)["damaged"] == []


def test_verify_a_damaged_store(filled: Lab) -> None:
    """Damaged files are listed with the reason; `--set-aside` moves those that the store wrote, and leaves all others."""
    first, second, *_ = filled.store.keys()
    path = next(filled.store.path(first).parent.glob("*"))
    path.write_bytes(path.read_bytes()[:-2])
    task = filled.store.root / "tasks" / second[:2] / f"{second}.json"
    task.write_bytes(task.read_bytes().replace(b'"cost"', b'"cast"'))
    notes = next(iter((filled.store.root / "trajectories").glob("*/*")))
    notes.write_text("")
    filled.store.training_states.save(key_of("trajectory"), 3, {}, {"weights": {"a": torch.zeros(2)}})
    os.truncate(next((filled.store.root / "progress").rglob("weights.safetensors")), 4)
    for foreign in ("notes.txt", "objects/notes.txt", "objects/ab/\x1b[31m"):
        (filled.store.root / foreign).parent.mkdir(exist_ok=True)
        (filled.store.root / foreign).write_text("foreign")
    output = run(filled, "verify", code=1).output
    assert f"objects/{first[:2]}/{first}: " in output
    assert f"tasks/{second[:2]}/{second}.json: it does not match its digest; a run that needs it writes it anew" in output
    assert f"trajectories/{notes.parent.name}/{notes.name}: 1 lines do not match their digests; they are passed over" in output
    assert "/3: weights.safetensors does not match its digest" in output
    assert "notes.txt: it is not the store's" in output
    assert "objects/ab/\\x1b[31m: it is not the store's" in output
    assert "7 damaged" in output
    assert not list((filled.store.root / "set_aside").iterdir())
    moved = json.loads(run(filled, "verify", "--set-aside", "--json", code=1).output)["damaged"]
    assert sum(bool(damage["set_aside"]) for damage in moved) == 4
    assert len(list((filled.store.root / "set_aside").iterdir())) == 4
    assert run(filled, "verify", code=1).output.count("it is not the store's") == 3
    assert not filled.store.present(first)


def test_prune(filled: Lab, tmp_path: Path) -> None:
    """`--yes` removes what no file needs: objects, states and notes of other trainings, and quarantined files."""
    needed = plan(load_benchmark(toy_file(tmp_path, members=2, methods=["deep"]), toys.catalogue()))
    kept = needed.cells[0].members[0].trajectory.key  # type: ignore[attr-defined]
    other = key_of("other trajectory")
    for trajectory in (kept, other):
        filled.store.training_states.save(trajectory, 3, {}, {"weights": {"a": torch.zeros(2)}})
    filled.store.put(key_of("junk"), {"kind": "train"}, {})
    filled.store.record_failure(key_of("junk"), {"message": "no"})
    quarantined = filled.store.quarantine(key_of("junk"))
    before = contents(filled.store)
    output = run(filled, "prune", tmp_path / "toy.yaml").output
    assert "would be removed; nothing was, --yes removes it" in output
    assert contents(filled.store) == before
    assert quarantined.exists()
    found = json.loads(run(filled, "prune", tmp_path / "toy.yaml", "--json").output)["needless"]
    assert {entry["kind"] for entry in found} == {
        *("train", "predict", "measure", "progress", "tasks", "trajectories", "failures", "set_aside")
    }
    filled.store = Store(filled.store.root)  # closes the store that was written
    gc.collect()
    assert "removed" in run(filled, "prune", tmp_path / "toy.yaml", "--yes").output
    assert set(filled.store.keys()) == {key for key in before if key in needed.tasks}
    assert needed.pending(filled.store) == {}
    assert list(filled.store.training_states.steps(kept)) == [3]
    assert list(filled.store.training_states.steps(other)) == []
    assert not quarantined.exists()
    assert run(filled, "prune", tmp_path / "toy.yaml").output.endswith("nothing to remove\n")
    assert run(filled, "verify").output.endswith("nothing damaged\n")


def test_prune_keeps_either_precision(filled: Lab, tmp_path: Path) -> None:
    """If a file leaves its precision open, prune keeps what it needs in fp32 and in bf16."""
    graph = plan(load_benchmark(toy_file(tmp_path), toys.catalogue()), "bf16")
    for key in graph.tasks:
        filled.store.put(key, {"kind": "train"}, {})
    found = json.loads(run(filled, "prune", tmp_path / "toy.yaml", "--json").output)["needless"]
    assert {entry["kind"] for entry in found} == {"measure", "tasks"}  # of metrics that the file does not list
    assert not [entry for entry in found for key in graph.tasks if key in entry["path"]]


def test_prune_with_a_benchmark_that_cannot_be_planned(filled: Lab, tmp_path: Path) -> None:
    """A benchmark that does not load, or whose builder fails, is an error, and nothing is removed."""

    class Broken(harness.EnsembleBuilder):
        name = "broken"

        def build(self, cell: harness.Cell) -> Any:
            raise RuntimeError("no idea")

    catalogue = toys.catalogue(("ensemble_builder", Broken))
    toy_file(tmp_path, methods=["deep", "broken"])
    before = contents(filled.store)
    for file in (tmp_path / "toy.yaml", tmp_path / "nowhere.yaml"):
        done = invoke(filled, "prune", file, "--yes", catalogue=catalogue)
        assert isinstance(done.exception, UserError)
    done = invoke(filled, "prune", tmp_path / "toy.yaml", catalogue=catalogue)
    assert "what it needs cannot be told: method 'broken' on blobs × perceptron: its builder fails" in str(done.exception)
    assert contents(filled.store) == before
    assert "Missing argument 'FILE...'" in CliRunner().invoke(command, ["prune", "--yes"]).output


def test_prune_a_store_in_use(filled: Lab, tmp_path: Path) -> None:
    """Nothing is removed while another process has the store open."""
    before = contents(filled.store)
    toy_file(tmp_path, members=2, methods=["deep"])
    other = Store(filled.store.root)
    other.prepare()
    done = invoke(filled, "prune", tmp_path / "toy.yaml", "--yes")
    assert "in use by" in str(done.exception)
    assert contents(filled.store) == before


def test_du(filled: Lab) -> None:
    """Objects count by the kind of task, other files by their folder; the sum is the size of all files."""
    kinds = {entry["kind"]: entry for entry in json.loads(run(filled, "du", "--json").output)["kinds"]}
    assert [kinds[kind]["count"] for kind in ("train", "predict", "measure", "tasks")] == [4, 3, 4, 12]
    files = sum(path.stat().st_size for path in filled.store.root.rglob("*") if path.is_file())
    assert sum(entry["bytes"] for entry in kinds.values()) == files
    text = run(filled, "du").output
    assert text.startswith("kind")
    assert text.endswith(f"{filled.store.root}: {files / 1024:.1f} KiB\n")


def test_missing_store(tmp_path: Path) -> None:
    """Every command ends with one line and creates no store."""
    for words in (["verify"], ["du"], ["prune", "x.yaml"]):
        done = CliRunner().invoke(command, [*words, "--store", str(tmp_path / "none")])
        assert str(done.exception) == f"store {tmp_path / 'none'}: there is none; name its folder with --store"
    assert not (tmp_path / "none").exists()
