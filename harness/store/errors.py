"""Turn errors of the operating system into one line that says what the user can do."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from harness.errors import StoreError

_FREE = "free some, or move the store and name its place with --store"
_ELSEWHERE = "choose another folder with --store"
_ADVICE = {
    errno.ENOSPC: f"no space left on the device; {_FREE}",
    errno.EDQUOT: f"the disk quota is used up; {_FREE}",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
    errno.EACCES: f"permission denied; {_ELSEWHERE}",
    errno.EPERM: f"permission denied; {_ELSEWHERE}",
    errno.ENOTDIR: f"a file is in the way; {_ELSEWHERE}",
    errno.EEXIST: f"a file is in the way; {_ELSEWHERE}",
    errno.ENAMETOOLONG: f"the path is too long for the file system; {_ELSEWHERE}",
    errno.ENOLCK: f"the file system knows no locks; {_ELSEWHERE}",
    errno.EFBIG: "a file is larger than this process may write; raise the limit with `ulimit -f`",
    errno.ESTALE: "the file system was mounted anew while in use (stale file handle); run the command again",
    errno.ENOENT: "it was moved or removed while in use; name its new place with --store",
    errno.EMFILE: "too many open files; allow more with `ulimit -n`",
    errno.ENFILE: "too many open files on this machine",
}


@contextlib.contextmanager
def explained(root: Path, problem: str) -> Iterator[None]:
    """Raise `StoreError`, one line with advice, instead of an `OSError` within the block.

    `problem` is the action that failed, for example "cannot be read".
    """
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, error.strerror or error)
        raise StoreError(f"store {root}: {problem}: {advice}") from error
