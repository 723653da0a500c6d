"""Compare the files of a bundle with `digests.json`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from harness.bundles.digests import Digests, FileDigest, digest_of
from harness.bundles.layout import DIGESTS, REQUIRED

_PART_OF_NO_BUNDLE = ".git", ".cache", ".gitattributes", ".gitignore", ".DS_Store"
"""Files of git, of Hugging Face's downloads and of file managers, which are not looked at."""


def file_problems(folder: Path, digests: Digests) -> Iterator[str]:
    """Yield one line per file that is missing, cut, changed, or not listed in `digests.json`."""
    for name in REQUIRED:
        if name not in digests.files:
            yield f"{name}: not listed in {DIGESTS}, though every bundle has one"
    for name, expected in digests.files.items():
        problem = _problem(folder / name, expected)
        if problem:
            yield f"{name}: {problem}"
    for name in sorted(_names(folder)):
        if name not in digests.files and name != DIGESTS:
            yield f"{name}: not listed in {DIGESTS}"


def _problem(path: Path, expected: FileDigest) -> str:
    """Return what is wrong with a file, or "". The size comes first, so that a huge file is not read."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            return "is no file"
        if facts.st_size != expected.bytes:
            kind = "cut short" if facts.st_size < expected.bytes else "changed"
            return f"has {facts.st_size} bytes, {expected.bytes} are listed: it was {kind}"
        if digest_of(path) != expected:
            return "does not match its digest: it was changed"
    except FileNotFoundError:
        return "not there"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return ""


def _names(folder: Path) -> Iterator[str]:
    """Yield the paths of all files below a folder, relative to it. Links to folders are not followed."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _PART_OF_NO_BUNDLE]
        for name in names:
            if name not in _PART_OF_NO_BUNDLE:
                yield Path(root, name).relative_to(folder).as_posix()
