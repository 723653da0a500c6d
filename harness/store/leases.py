"""Leases: which process works on which task."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness import files
from harness.store.errors import explained
from harness.store.layout import Folder, Layout
from harness.store.locks import LockSupport, lock_file
from harness.store.writer import StoreWriter


class Leases:
    """Gives each task to one process at a time.

    Where locks do not work, every process gets every lease. The store is one run's then, which gives each task to one worker.
    """

    def __init__(self, layout: Layout, writer: StoreWriter, locks: LockSupport) -> None:
        self._layout = layout
        self._writer = writer
        self._locks = locks

    @contextlib.contextmanager
    def hold(self, key: str) -> Iterator[bool]:
        """Hold the lease on a key within the block; yield False at once if another process holds it.

        Raise `StoreError` if the lock file cannot be written.
        """
        path = self._layout.lease_file(key)
        with contextlib.ExitStack() as stack:
            with explained(self._layout.root, "cannot be locked"):
                self._writer.make_folders()
                acquired = bool(self._locks.problem) or stack.enter_context(lock_file(path))
            yield acquired

    def sweep(self) -> None:
        """Remove the lock files of dead processes."""
        if self._locks.problem:
            return
        for path in files.list_folder(self._layout.folder(Folder.LEASES)):
            with contextlib.suppress(OSError), lock_file(path):
                pass
