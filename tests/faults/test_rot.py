"""Every file of a store with a byte flipped, cut, emptied, or swapped with another's: detected on reading, named, set aside and
computed again; never used, never deleted."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Lab
from faults.rig import contents, events, graph_in, leftovers, run_here, some
from harness.errors import DamagedObject, Interrupted
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


def spoil(path: Path, damage: str, other: Path) -> None:
    """Damage a file; `other` is one of another object, of the same name."""
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[random.Random(str(path.name)).randrange(len(data))] ^= 1 << random.Random(len(data)).randrange(8)
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "link":
        path.symlink_to("/dev/zero")
    elif damage != "removed":
        rest = {"flipped": data, "cut": data[: len(data) // 2], "emptied": b"", "swapped": b""}[damage]
        path.write_bytes(other.read_bytes() if damage == "swapped" else rest)


def victims(store: Path, room: str) -> Iterator[tuple[Path, Path]]:
    """Yield every file of a room, with one of the same name that belongs to another object and is different."""
    files = sorted(path for path in (store / room).rglob("*") if path.is_file())
    for path in files:
        others = [p for p in files if p.suffix == path.suffix and p.read_bytes() != path.read_bytes()]
        same = [p for p in others if p.name == path.name]
        yield path, (same or others)[0]


@pytest.mark.parametrize("damage", some(DAMAGES, 2))
def test_every_damaged_file_is_found_and_nothing_else(tmp_path: Path, finished: Path, damage: str) -> None:
    """Of every object, every file: reading it raises, and verifying names this object alone. A task's or a trajectory's file is
    named as well, and not used."""
    shutil.copytree(finished / "store", tmp_path / "store")
    store = Store(tmp_path / "store")
    whole = shutil.copytree(tmp_path / "store", tmp_path / "whole")
    count = 0
    for room in ("objects", "tasks", "trajectories"):
        for path, other in list(victims(tmp_path / "store", room)):
            if damage == "removed" and room != "objects":
                continue
            spoil(path, damage, other)
            [found] = store.maintenance.find_corruption()
            key = path.parent.name if room == "objects" else path.stem
            assert key in found.path
            if room == "objects":
                with pytest.raises(DamagedObject):
                    store.verify(key)
            elif room == "trajectories":
                assert set(store.epochs(key).items()) <= set(Store(whole).epochs(key).items())
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
            shutil.copy(whole / path.relative_to(tmp_path / "store"), path)
            count += 1
    assert count >= 40
    assert list(store.maintenance.find_corruption()) == []


def kinds(folder: Path) -> dict[str, Path]:
    """Return a file of each kind that a later run may read."""
    found: dict[str, Path] = {}
    graph = graph_in(folder)
    for task in graph.tasks.values():
        room = folder / "store" / "objects" / task.key[:2] / task.key
        for path in sorted(room.iterdir()):
            found.setdefault(f"{task.kind} {path.name}", path)
        if task.kind == "train":
            way = task.spec.trajectory_key
            found.setdefault("notes", folder / "store" / "trajectories" / way[:2] / way)
        found["task"] = folder / "store" / "tasks" / task.key[:2] / f"{task.key}.json"
    return found


@pytest.mark.parametrize(("number", "damage"), list(enumerate(DAMAGES)))
def test_damaged_file_is_made_again(tmp_path: Path, finished: Path, number: int, damage: str) -> None:
    """A run that needs the file names it, sets it aside with its bytes, and ends with the same weights and values."""
    names = list(kinds(finished))
    check_made_again(tmp_path, finished, names[number % len(names)], damage)


@pytest.mark.slow
@pytest.mark.faults
def test_every_kind_of_file_with_every_damage_is_made_again(tmp_path: Path, finished: Path) -> None:
    """The same for every kind of file and every damage."""
    for name, damage in itertools.product(kinds(finished), DAMAGES):
        folder = tmp_path / f"{name}-{damage}".replace(" ", "-")
        folder.mkdir()
        check_made_again(folder, finished, name, damage)


def ancestors(graph: Graph, key: str) -> set[str]:
    """Return a task's key with those of all that it stands on."""
    return {key}.union(*(ancestors(graph, parent) for parent in graph.tasks[key].parents))


def check_made_again(folder: Path, finished: Path, name: str, damage: str) -> None:
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    (folder / "out" / "events.jsonl").unlink()
    path = kinds(folder)[name]
    graph = graph_in(folder)
    needed = ancestors(graph, path.parent.name) if path.parent.name in graph.tasks else set(graph.tasks)
    for key in graph.tasks.keys() - needed:  # so that the run reads what is left
        shutil.rmtree(Store(folder / "store").path(key, "x").parent)
    other = next(o for p, o in victims(finished / "store", path.relative_to(folder / "store").parts[0]) if p.name == path.name)
    spoil(path, damage, other)
    spoiled = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    assert run_here(folder) == 0
    store = Store(folder / "store")
    assert contents(store) == contents(Store(finished / "store"))
    assert (folder / "out" / "results.csv").read_bytes() == (finished / "out" / "results.csv").read_bytes()
    assert leftovers(store) == []
    if name in ("notes", "task"):  # hints: nothing that is in the store is made of them
        return
    assert list(store.maintenance.find_corruption()) == []
    assert [event for event in events(folder, "set_aside") if path.parent.name == event["key"]]
    aside = [entry for entry in (store.base / "set_aside").iterdir() if entry.name.startswith(path.parent.name)]
    assert len(aside) == 1
    if spoiled is not None:
        assert (aside[0] / path.name).read_bytes() == spoiled


STATES = list(itertools.product(["weights.safetensors", "optimizer-momentum.safetensors", "meta.json"], DAMAGES))


@pytest.mark.parametrize(("file", "damage"), some(STATES, 4))
def test_damaged_state_of_a_training_is_not_gone_on_from(lab: Lab, tmp_path: Path, file: str, damage: str) -> None:
    """A training goes on from the start instead, ends with the same weights, and the state is kept aside and named."""
    graph = graph_in(tmp_path, methods=["deep"], members=1, metrics=["ensemble_accuracy"])
    looks = itertools.count()
    with pytest.raises(Interrupted):
        lab.run(graph, stopping=lambda: next(looks) > 7)
    [state] = (lab.store.root / "progress").glob("*/*/*")
    key = graph.cells[0].members[0].key
    [other] = [path for path in state.iterdir() if path.suffix == Path(file).suffix and path.name != file] or [Path(__file__)]
    spoil(state / file, damage, other)
    lab.events.clear()
    lab.run(graph)
    whole = Store(tmp_path / "whole")
    lab.run(graph, store=whole)
    assert contents(lab.store)[key] == contents(whole)[key]
    [quarantined] = [event for event in lab.events if isinstance(event, ObjectQuarantined)]
    assert f"step {state.name}: {file}" in quarantined.message or "its digest" in quarantined.message
    assert [entry for entry in (lab.store.root / "set_aside").iterdir() if entry.name.startswith(state.parent.name)]
    assert list((lab.store.root / "progress").glob("*/*")) == []


def test_states_swapped_between_steps_and_trainings_are_refused(tmp_path: Path) -> None:
    """A state under another step's number, or another training's, is not taken for it."""
    store = Store(tmp_path)
    for way in ("a" * 64, "b" * 64):
        store.save_training_state(way, 3, {}, {})
    (tmp_path / "progress" / "aa" / ("a" * 64) / "3").rename(tmp_path / "progress" / "aa" / ("a" * 64) / "5")
    with pytest.raises(DamagedObject, match="the state at step 5 is another step's"):
        store.load_training_state("a" * 64, 5)
    (tmp_path / "progress" / "bb" / ("b" * 64) / "3").rename(tmp_path / "progress" / "aa" / ("a" * 64) / "3")
    with pytest.raises(DamagedObject, match=r"meta\.json does not match its digest"):
        store.load_training_state("a" * 64, 3)


def test_notes_swapped_between_trajectories_are_not_used(tmp_path: Path, finished: Path) -> None:
    """A trajectory's notes under another's name would continue the wrong training: they are passed over, and then replaced."""
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
    assert [path for path in (store.base / "set_aside").iterdir() if path.read_bytes() == other.read_bytes()]
