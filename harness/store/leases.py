"""Leases: which process works on which task."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness import files
from harness.store.errors import explained
from harness.store.layout import Folder, Layout
from harness.store.locks import lock_file
from harness.store.writer import StoreWriter


class Leases:
    """Gives each task to one process at a time."""

    def __init__(self, layout: Layout, writer: StoreWriter) -> None:
        self._layout = layout
        self._writer = writer

    @contextlib.contextmanager
    def hold(self, key: str) -> Iterator[bool]:
        """Hold the lease on a key within the block; yield False at once if another process holds it.

        Raise `StoreError` if the file system cannot lock.
        """
        path = self._layout.lease_file(key)
        with contextlib.ExitStack() as stack:
            with explained(self._layout.root, "cannot be locked"):
                self._writer.make_folders()
                acquired = stack.enter_context(lock_file(path))
            yield acquired

    def sweep(self) -> None:
        """Remove the lock files of dead processes."""
        for path in files.list_folder(self._layout.folder(Folder.LEASES)):
            with contextlib.suppress(OSError), lock_file(path):
                pass
