"""Damage to every file of a store: it is detected on reading and named, the object is quarantined and computed again; damaged
data is neither used nor deleted."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Lab, stop_after
from faults.rig import contents, events, graph_in, run_here, some, temporary_files
from harness.errors import DamagedObject, Interrupted
from harness.plan.ancestors import ancestors
from harness.plan.graph import Graph
from harness.store import Store
from harness.telemetry.events import ObjectQuarantined

DAMAGES = ("flipped", "cut", "emptied", "swapped", "removed", "folder", "link")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    assert run_here(folder) == 0
    return folder


def apply_damage(path: Path, damage: str, other: Path) -> None:
    """Damage a file; "swapped" gives it the content of `other`, a file of another object."""
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped":
        position = random.Random(path.name).randrange(len(data))
        data[position] ^= 1 << random.Random(len(data)).randrange(8)
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "emptied":
        path.touch()
    elif damage == "swapped":
        path.write_bytes(other.read_bytes())
    elif damage == "folder":
        path.mkdir()
    elif damage == "link":
        path.symlink_to("/dev/zero")
    else:
        assert damage == "removed"


def files_to_damage(store: Path, folder: str) -> Iterator[tuple[Path, Path]]:
    """Yield every file in a folder of a store, with a different file of the same name, or at least of the same suffix."""
    files = sorted(path for path in (store / folder).rglob("*") if path.is_file())
    for path in files:
        others = [other for other in files if other.suffix == path.suffix and other.read_bytes() != path.read_bytes()]
        same_name = [other for other in others if other.name == path.name]
        yield path, (same_name or others)[0]


@pytest.mark.parametrize("damage", some(DAMAGES, 2))
def test_each_damaged_file(tmp_path: Path, finished: Path, damage: str) -> None:
    """The file is the only damage found; a damaged object raises an error on reading, and damaged notes are not used."""
    shutil.copytree(finished / "store", tmp_path / "store")
    store = Store(tmp_path / "store")
    whole = shutil.copytree(tmp_path / "store", tmp_path / "whole")
    count = 0
    for folder in ("objects",) if damage == "removed" else ("objects", "tasks", "trajectories"):
        for path, other in list(files_to_damage(tmp_path / "store", folder)):
            apply_damage(path, damage, other)
            [found] = store.maintenance.find_corruption()
            key = path.parent.name if folder == "objects" else path.stem
            assert key in found.path
            if folder == "objects":
                with pytest.raises(DamagedObject, match=key[:12]):
                    store.verify(key)
            elif folder == "trajectories":
                assert store.epochs(key).items() <= Store(whole).epochs(key).items()
            repair(path, whole / path.relative_to(tmp_path / "store"))
            count += 1
    assert count >= 40
    assert list(store.maintenance.find_corruption()) == []


def repair(path: Path, whole: Path) -> None:
    """Replace whatever is at a path by a whole file."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    shutil.copy(whole, path)


def files_by_kind(folder: Path) -> dict[str, Path]:
    """Return a file of each kind that a later run may read."""
    found: dict[str, Path] = {}
    graph = graph_in(folder)
    for task in graph.tasks.values():
        for path in sorted((folder / "store" / "objects" / task.key[:2] / task.key).iterdir()):
            found.setdefault(f"{task.kind} {path.name}", path)
        if task.kind == "train":
            trajectory = task.spec.trajectory_key
            found.setdefault("notes", folder / "store" / "trajectories" / trajectory[:2] / trajectory)
        found["task"] = folder / "store" / "tasks" / task.key[:2] / f"{task.key}.json"
    return found


@pytest.mark.parametrize(("number", "damage"), list(enumerate(DAMAGES)))
def test_run_with_a_damaged_file(tmp_path: Path, finished: Path, number: int, damage: str) -> None:
    """The run quarantines the file with its bytes, and ends with the same weights and values."""
    names = list(files_by_kind(finished))
    check_recomputed(tmp_path, finished, names[number % len(names)], damage)


@pytest.mark.slow
@pytest.mark.faults
def test_run_with_every_kind_of_damage_to_every_kind_of_file(tmp_path: Path, finished: Path) -> None:
    """The same is true for every kind of file and damage."""
    for name, damage in itertools.product(files_by_kind(finished), DAMAGES):
        folder = tmp_path / f"{name}-{damage}".replace(" ", "-")
        folder.mkdir()
        check_recomputed(folder, finished, name, damage)


def remove_all_but(graph: Graph, key: str, store: Store) -> None:
    """Remove the objects of all tasks that a task does not depend on, so that a run reads the others."""
    needed = set(ancestors([key], lambda task: graph.tasks[task].parents))
    for other in graph.tasks.keys() - needed:
        shutil.rmtree(store.path(other, "x").parent)


def check_recomputed(folder: Path, finished: Path, name: str, damage: str) -> None:
    """Damage a file of a kind in a copy of a finished run, and run again."""
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    (folder / "out" / "events.jsonl").unlink()
    path = files_by_kind(folder)[name]
    graph = graph_in(folder)
    if path.parent.name in graph.tasks:
        remove_all_but(graph, path.parent.name, Store(folder / "store"))
    place = path.relative_to(folder / "store")
    others = dict(files_to_damage(finished / "store", place.parts[0]))
    apply_damage(path, damage, others[finished / "store" / place])
    damaged = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    assert run_here(folder) == 0
    store = Store(folder / "store")
    assert contents(store) == contents(Store(finished / "store"))
    assert (folder / "out" / "results.csv").read_bytes() == (finished / "out" / "results.csv").read_bytes()
    assert temporary_files(store) == []
    if name in ("notes", "task"):  # no object is computed from them
        return
    assert list(store.maintenance.find_corruption()) == []
    assert path.parent.name in [event["key"] for event in events(folder, "set_aside")]
    [quarantined] = [entry for entry in (store.base / "set_aside").iterdir() if entry.name.startswith(path.parent.name)]
    if damaged is not None:
        assert (quarantined / path.name).read_bytes() == damaged


STATES = list(itertools.product(["weights.safetensors", "optimizer-momentum.safetensors", "meta.json"], DAMAGES))


@pytest.mark.parametrize(("file", "damage"), some(STATES, 4))
def test_training_with_a_damaged_state(lab: Lab, tmp_path: Path, file: str, damage: str) -> None:
    """The state is quarantined and named, and the training starts again and ends with the same weights."""
    graph = graph_in(tmp_path, methods=["deep"], members=1, metrics=["ensemble_accuracy"])
    with pytest.raises(Interrupted):
        lab.run(graph, stopping=stop_after(8))
    [state] = (lab.store.root / "progress").glob("*/*/*")
    key = graph.cells[0].members[0].key
    same_suffix = [path for path in state.iterdir() if path.suffix == Path(file).suffix and path.name != file]
    [other] = same_suffix or [Path(__file__)]
    apply_damage(state / file, damage, other)
    lab.events.clear()
    lab.run(graph)
    whole = Store(tmp_path / "whole")
    lab.run(graph, store=whole)
    assert contents(lab.store)[key] == contents(whole)[key]
    [message] = lab.messages(ObjectQuarantined)
    assert f"step {state.name}: {file}" in message or "its digest" in message
    [quarantined] = (lab.store.root / "set_aside").iterdir()
    assert quarantined.name.startswith(state.parent.name)
    assert list((lab.store.root / "progress").glob("*/*")) == []


def test_training_state_of_another_step_or_trajectory(tmp_path: Path) -> None:
    """A state that was renamed to another step, or moved to another trajectory, is damaged."""
    store = Store(tmp_path)
    for trajectory in ("a" * 64, "b" * 64):
        store.training_states.save(trajectory, 3, {}, {})
    (tmp_path / "progress" / "aa" / ("a" * 64) / "3").rename(tmp_path / "progress" / "aa" / ("a" * 64) / "5")
    with pytest.raises(DamagedObject, match="the state at step 5 is another step's"):
        store.training_states.load("a" * 64, 5)
    (tmp_path / "progress" / "bb" / ("b" * 64) / "3").rename(tmp_path / "progress" / "aa" / ("a" * 64) / "3")
    with pytest.raises(DamagedObject, match=r"meta\.json does not match its digest"):
        store.training_states.load("a" * 64, 3)


def test_notes_of_another_trajectory(tmp_path: Path, finished: Path) -> None:
    """They are not used, since they would continue the wrong training; the next note quarantines and replaces them."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    graph = graph_in(tmp_path, methods=[{"constrained": {"fork_epoch": 1}}])
    trunk = next(task for task in graph.tasks.values() if task.kind == "train" and task.spec.epoch == 1)
    store = Store(tmp_path / "store")
    own = store.base / "trajectories" / trunk.spec.trajectory_key[:2] / trunk.spec.trajectory_key
    other = next(path for path in (store.base / "trajectories").glob("*/*") if path != own)
    assert store.epochs(own.name)[1] == trunk.key
    shutil.copy(other, own)
    assert store.epochs(own.name) == {}
    store.note_epoch(own.name, 1, trunk.key)
    assert store.epochs(own.name) == {1: trunk.key}
    [quarantined] = (store.base / "set_aside").iterdir()
    assert quarantined.read_bytes() == other.read_bytes()
