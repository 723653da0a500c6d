"""How long the tasks took whose results a store has, from the metadata of its objects. Imports no torch."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from harness.api.specs import TrainSpec, task_spec_from_json
from harness.errors import DamagedObject
from harness.plan.work_class import Timing, WorkClass, work_class
from harness.store import Store

_MOST_OBJECTS = 20_000  # read at most, which takes some seconds
_ENOUGH = 8  # timings of one class

_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def stored_timings(store: Store, wanted: Collection[WorkClass], likely: Iterable[str]) -> list[Timing]:
    """Return timings of stored objects, those with the keys `likely` first.

    Reading ends when there are enough of each wanted class, or after 20,000 objects. Objects that cannot be read, or whose
    metadata are not as expected, are left out. Raise `StoreError` if the store cannot be read.
    """
    found: list[Timing] = []
    counts: Counter[WorkClass] = Counter()
    for number, key in enumerate(_keys(store, likely)):
        if number >= _MOST_OBJECTS or all(counts[work] >= _ENOUGH for work in wanted):
            break
        try:
            timings = timings_of(store.meta(key))
        except (DamagedObject, *_MALFORMED):
            continue
        found += timings
        counts.update(timing.work for timing in timings)
    return found


def _keys(store: Store, likely: Iterable[str]) -> Iterator[str]:
    others = dict.fromkeys(store.keys())
    for key in likely:
        if key in others:
            del others[key]
            yield key
    yield from others


def timings_of(meta: Mapping[str, Any]) -> list[Timing]:
    """Return the timings in the metadata of an object. Raise an exception if these are not as the harness writes them."""
    spec = task_spec_from_json(meta["spec"])
    work = work_class(spec)
    if work is None:
        return []
    if isinstance(spec, TrainSpec):
        return list(_epochs(spec, work, meta))
    device = _device(meta["provenance"]["device"], meta)
    return [Timing(work, device, _seconds(meta["seconds"]))]


def _epochs(spec: TrainSpec, work: WorkClass, meta: Mapping[str, Any]) -> Iterator[Timing]:
    """Yield the median seconds per epoch and network of a training, for each device and number of siblings that it had.

    The seconds of a joint training are those of all its networks.

    The first epoch of a process is left out where there are others: it includes the set-up, such as capturing a graph.
    """
    first: dict[tuple[str, int], list[float]] = defaultdict(list)
    later: dict[tuple[str, int], list[float]] = defaultdict(list)
    segments = meta["stepping"]
    for record in meta["history"]:
        epoch = int(record["epoch"])
        begun = [segment for segment in segments if segment["epoch"] < epoch]
        if not spec.start.epoch < epoch <= spec.epoch or not begun:
            continue
        segment = begun[-1]
        siblings = int(segment["siblings"]) if spec.coupled is None else 1
        how = _device(segment["device"], meta), siblings
        epochs = later if segment["epoch"] <= epoch - 2 else first
        epochs[how].append(_seconds(record["seconds"]) / siblings)
    for device, siblings in {**first, **later}:
        seconds = later.get((device, siblings)) or first[device, siblings]
        yield Timing(work, device, statistics.median(seconds), siblings)


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{value!r} is no duration")
    return seconds


def _device(name: Any, meta: Mapping[str, Any]) -> str:
    """Return the name of a device in timings."""
    return device_label(str(name), str(meta["provenance"]["processor"]))


def device_label(device: str, processor: str) -> str:
    """Return the name of a GPU, or `cpu` and the processor's name."""
    return f"cpu ({processor})" if device == "cpu" else device


def is_cpu(label: str) -> bool:
    """Return whether a device's label is that of a CPU, where siblings are trained one by one."""
    return label.startswith("cpu (")
