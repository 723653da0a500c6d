"""What a store holds, what of it is damaged, and what of it nobody needs. Removes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import DamagedObject, StoreError
from harness.store import company, disk
from harness.store.store import ROOMS, Store

_KEYED = ("objects", "progress", "trajectories", "tasks", "failures")
_LOOSE = ("set_aside", "leases", company.ROOM)


@dataclass(frozen=True)
class Holding:
    """How much of a kind lies in a store."""

    kind: str
    count: int
    bytes: int


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was written: its path in the store, what is wrong, and whether the store put it there."""

    path: str
    reason: str
    ours: bool = True


@dataclass(frozen=True)
class Needless:
    """Something that none of the tasks asked about needs."""

    kind: str
    path: Path
    bytes: int


def holdings(store: Store) -> list[Holding]:
    """Return what lies in a store: objects by the kind of task that made them, then everything else by its folder."""
    found: dict[str, list[int]] = defaultdict(list)
    for path in store.inside("objects"):
        found[_object_kind(store, path)].append(disk.size(path))
    for room in _KEYED[1:]:
        found[room] = [disk.size(path) for path in store.inside(room)]
    for room in _LOOSE:
        found[room] = [disk.size(path) for path in store.loose(room)]
    return [Holding(kind, len(sizes), sum(sizes)) for kind, sizes in found.items()]


def damages(store: Store) -> Iterator[Damage]:
    """Read everything in a store against its digests, and yield what does not match or does not belong there."""
    for path in store.inside("objects"):
        reason = store.damage(path.name)
        if reason:
            yield Damage(_name(store, path), reason)
    for path in store.inside("progress"):
        for step in store.progress(path.name):
            try:
                store.verify_progress(path.name, step)
            except DamagedObject as error:
                yield Damage(f"{_name(store, path)}/{step}", error.reason)
    for path in store.inside("trajectories"):
        bad = store.notes(path.name)[1]
        if bad:
            yield Damage(_name(store, path), f"{bad} lines do not match their digests; they are passed over")
    for path in store.inside("tasks"):
        try:
            store.read_task(path.stem)
        except StoreError:
            yield Damage(_name(store, path), "it does not match its digest; a run that needs it writes it anew")
    yield from _strangers(store)


def needless(store: Store, tasks: Collection[str], trajectories: Collection[str]) -> Iterator[Needless]:
    """Yield what lies in a store and belongs to none of some tasks and trajectories; what was set aside belongs to nobody."""
    for room in _KEYED:
        needed = trajectories if room in ("progress", "trajectories") else tasks
        for path in store.inside(room):
            if path.name.removesuffix(".json") not in needed:
                yield Needless(_object_kind(store, path) if room == "objects" else room, path, disk.size(path))
    for path in store.loose("set_aside"):
        yield Needless("set_aside", path, disk.size(path))


def _strangers(store: Store) -> Iterator[Damage]:
    """Yield what the store did not put where it lies."""
    lying = [path for path in store.loose() if path.name not in ROOMS]
    for room in _KEYED:
        placed = set(store.inside(room))
        for folder in store.loose(room):
            inside = store.loose(f"{room}/{folder.name}")
            lying += [path for path in inside if path not in placed] if inside or len(folder.name) == 2 else [folder]
    for path in lying:
        yield Damage(_name(store, path), "it is not the store's", ours=False)


def _object_kind(store: Store, path: Path) -> str:
    """Return the kind of task that made an object; `unreadable` if its meta-data does not say."""
    try:
        kind = store.meta(path.name).get("kind")
    except DamagedObject:
        return "unreadable"
    return kind if isinstance(kind, str) and kind.isidentifier() else "unreadable"


def _name(store: Store, path: Path) -> str:
    return str(path.relative_to(store.base))
