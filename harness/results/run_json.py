"""`run.json`, the facts of a run: its status, the resolved benchmark, the members' weights and the provenance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.errors import UserError

FILE_NAME = "run.json"


def load_run_json(folder: Path, remedy: str) -> dict[str, Any] | None:
    """Return the content of the `run.json` in a run's folder; None if there is no such file.

    Raise `UserError` if it cannot be read or holds no JSON object. `remedy` ends the message about damaged content.
    """
    path = folder / FILE_NAME
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON: {error}; {remedy}") from None
    if not isinstance(facts, dict):
        raise UserError(f"{path}: holds no JSON object; {remedy}")
    return facts
