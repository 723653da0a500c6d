"""The store of a node, reached through the actor there. What is copied travels through Ray's object store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayTaskError

from harness import engines

_KEPT = 32  # entries that stay in Ray's object store, since several nodes may need them


class SentEntries:
    """The entries that were put into Ray's object store lately."""

    def __init__(self) -> None:
        self._references: OrderedDict[engines.EntryName, ray.ObjectRef[engines.PackedEntry]] = OrderedDict()

    def reference(self, entry: engines.PackedEntry) -> ray.ObjectRef[engines.PackedEntry]:
        """Return a reference to an entry in the object store."""
        known = self._references.pop(entry.name, None)
        self._references[entry.name] = known if known is not None else ray.put(entry)
        if len(self._references) > _KEPT:
            self._references.popitem(last=False)
        return self._references[entry.name]


class ActorStore:
    """The store of the node of an actor, as `Transfers` needs it. Raise `RayActorError` if the actor has ended."""

    def __init__(self, actor: Any, sent: SentEntries, host: str) -> None:
        self._actor = actor
        self._sent = sent
        self._host = host

    def lacks(self, names: Sequence[engines.EntryName]) -> Sequence[engines.EntryName]:
        """Return the names of what is not there yet."""
        found: Sequence[engines.EntryName] = self._call("lacks", names)
        return found

    def accept(self, entry: engines.PackedEntry) -> str:
        """Take an entry; return what is wrong with it, or ""."""
        return str(self._call("accept", self._sent.reference(entry)))

    def begin(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Write task files."""
        self._call("begin", tasks)

    def result(self, key: str) -> engines.PackedEntry | None:
        """Return the object of a task."""
        entry: engines.PackedEntry | None = self._call("result", key)
        return entry

    def end(self, key: str) -> None:
        """Forget a task."""
        self._call("end", key)

    def new_states(self) -> Sequence[engines.PackedEntry]:
        """Return the training states that are new."""
        entries: Sequence[engines.PackedEntry] = self._call("new_states")
        return entries

    def failure(self, key: str) -> dict[str, Any] | None:
        """Return what was recorded about a failed task."""
        facts: dict[str, Any] | None = self._call("failure", key)
        return facts

    def discard(self, key: str) -> None:
        """Remove a damaged object."""
        self._call("discard", key)

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return ray.get(self._actor.in_store.remote(method, *arguments))
        except RayTaskError as error:
            if isinstance(error.cause, engines.StoreError):
                raise engines.StoreError(f"node {self._host}: {error.cause}") from None
            raise error.cause from None
