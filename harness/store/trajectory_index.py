"""Which epochs of a trajectory are stored, and under which keys.

The file of a trajectory has one line per checkpoint, `EPOCH KEY DIGEST`, and a last line with their
number. Each line has its own digest, so that a damaged line does not invalidate the others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness import files
from harness.store import objects
from harness.store.errors import explained
from harness.store.layout import Layout, is_key
from harness.store.writer import StoreWriter


@dataclass(frozen=True)
class IndexContent:
    """The file of a trajectory: the key of each epoch, and the number of damaged lines."""

    keys: Mapping[int, str]
    damaged_lines: int


class TrajectoryIndex:
    """The stored checkpoints of trajectories. Methods raise `StoreError`."""

    def __init__(self, layout: Layout, writer: StoreWriter) -> None:
        self._layout = layout
        self._writer = writer

    def add(self, trajectory: str, epoch: int, key: str) -> None:
        """Record durably the key under which a checkpoint is or will be stored."""
        path = self._layout.index_file(trajectory)
        with explained(self._layout.root, "cannot be read"):
            files.refresh(path, self._layout.base)
        content = self.read(trajectory)
        if content.damaged_lines:
            self._writer.quarantine(path, f"{trajectory}-notes")
        text = _render(trajectory, {**content.keys, epoch: key})
        with explained(self._layout.root, "cannot be written"):
            self._writer.write_file(path, text.encode(), durable=True)

    def read(self, trajectory: str) -> IndexContent:
        """Return the record of a trajectory; ignore damaged lines."""
        path = self._layout.index_file(trajectory)
        with explained(self._layout.root, "cannot be read"):
            try:
                data = files.read(path, objects.MAX_META)
            except FileNotFoundError:
                return IndexContent({}, 0)
            except OSError as error:
                if not objects.is_file_damage(error):
                    raise
                return IndexContent({}, 1)
        return _parse(trajectory, data)


def _parse(trajectory: str, data: bytes) -> IndexContent:
    text = data.decode("ascii", "replace")
    keys: dict[int, str] = {}
    for line in text.split("\n"):
        epoch, key = _parse_line(trajectory, line)
        if key:
            keys[epoch] = key
    expected = _render(trajectory, keys)
    if text == expected:
        return IndexContent(keys, 0)
    damaged = set(text.split("\n")) ^ set(expected.split("\n"))
    return IndexContent(keys, len(damaged))


def _parse_line(trajectory: str, line: str) -> tuple[int, str]:
    """Return a line's epoch and key; an empty key if the line is damaged or the last one."""
    fields = line.split(" ")
    if len(fields) != 3:
        return 0, ""
    epoch, key, digest = fields
    if not re.fullmatch(r"[0-9]{1,9}", epoch) or not is_key(key):
        return 0, ""
    if digest != _digest(trajectory, f"{epoch} {key}"):
        return 0, ""
    return int(epoch), key


def _render(trajectory: str, keys: Mapping[int, str]) -> str:
    lines = [f"{epoch} {key}" for epoch, key in sorted(keys.items())]
    lines.append(f"end {len(keys)}")
    return "".join(f"{line} {_digest(trajectory, line)}\n" for line in lines)


def _digest(trajectory: str, line: str) -> str:
    return hashlib.sha256(f"{trajectory} {line}".encode()).hexdigest()[:16]
