"""The layout of a bundle: the names of its files, their format, and the largest sizes that are read.

A bundle may come from strangers: names are checked, sizes are bounded, and no code is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import UserError
from harness.results.bundle_mark import BENCHMARK, DIGESTS
from harness.store.layout import is_key

__all__ = ["BENCHMARK", "DIGESTS"]

FORMAT = 1
"""Version of the layout and of the JSON files in it. Raise it when a reader of this version would misread a bundle."""

RESULTS = "results.csv"
EXAMPLES = "examples.npz"
BOARD = "leaderboard.md"
PAGE = "report.html"
PROVENANCE = "provenance.json"
REQUIRED = (RESULTS, BOARD, PAGE, BENCHMARK, PROVENANCE)
"""The files that every bundle has beside `digests.json`."""

MEMBERS = "members"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"

MAX_JSON = 64 * 2**20
"""The largest size, in bytes, of a JSON file."""
MAX_ROWS = 2**32
"""The largest size, in bytes, of `results.csv`."""


class BundleError(UserError):
    """A bundle whose files contradict each other, or are damaged. The message is one line."""


_MALFORMED = (ValueError, RecursionError)


def member_file(key: str, name: str) -> str:
    """Return the path of a member's file within a bundle."""
    return f"{MEMBERS}/{key}/{name}"


def is_bundle_file(name: str) -> bool:
    """Return whether a bundle may contain a file of this path, `digests.json` excepted."""
    if name in (*REQUIRED, EXAMPLES):
        return True
    parts = name.split("/")
    return len(parts) == 3 and parts[0] == MEMBERS and is_key(parts[1]) and parts[2] in (WEIGHTS, CONFIG, CARD)


def file_size(path: Path) -> int:
    """Return the size of a file in bytes, 0 if there is none. Links are followed: downloads of Hugging Face are links."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def json_text(value: Any) -> str:
    """Return JSON as a bundle's files contain it: the same value gives the same text."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of at most `MAX_JSON` bytes. Raise `UserError`, one line, if there is none."""
    try:
        value = json.loads(files.read(path, MAX_JSON))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except _MALFORMED as error:
        raise UserError(f"{path}: not readable as JSON: {error}; was the file cut short?") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds no JSON object; was it changed?")
    return value


def check_format(path: Path, facts: dict[str, Any]) -> None:
    """Raise `UserError` if a JSON file of a bundle states another format than this version reads."""
    found = facts.get("format")
    if type(found) is not int or found < 1:
        raise UserError(f"{path}: format is {found!r:.40}; a bundle of `harness publish` has format {FORMAT}")
    if found > FORMAT:
        raise UserError(f"{path}: format is {found}; this version of basin-harness reads format {FORMAT}: install a newer one")
