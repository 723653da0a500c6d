"""Upload a bundle to a repository of Hugging Face, whose layout its members' folders have."""

from __future__ import annotations

import socket
import urllib.parse
from pathlib import Path

from harness.errors import UserError
from harness.text import single_line

TIMEOUT = 10.0
"""Seconds without an answer after which the hub counts as unreachable."""


def upload(folder: Path, repository: str) -> str:
    """Upload a bundle's folder as it is to a model repository, which is created if necessary. Return its address.

    Raise `UserError`, one line, if huggingface_hub is not installed, the hub cannot be reached, or it refuses.
    """
    try:
        from huggingface_hub import HfApi, constants
    except Exception as error:  # it raises for environment variables that it cannot use
        raise UserError(
            f"--repo {repository}: huggingface_hub cannot be imported: {_reason(error)}; {_advice(folder)}"
        ) from None
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"--repo {repository}: HF_HUB_OFFLINE forbids it; {_advice(folder)}")
    _require_reachable(repository, folder, str(constants.ENDPOINT))
    hub = HfApi()
    try:
        created = hub.create_repo(repository, exist_ok=True)
        hub.upload_folder(repo_id=created.repo_id, folder_path=folder, commit_message="Add a bundle of basin-harness")
    except Exception as error:  # network, server, token and name: huggingface_hub has a type of error for each
        raise UserError(f"--repo {repository}: cannot be uploaded: {_reason(error)}; {_advice(folder)}") from None
    return str(created)


def _require_reachable(repository: str, folder: Path, endpoint: str) -> None:
    """Raise `UserError` if no connection can be made. huggingface_hub itself would retry for minutes."""
    try:
        parts = urllib.parse.urlsplit(endpoint)
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname or "", port), timeout=TIMEOUT).close()
    except (OSError, ValueError) as error:
        raise UserError(f"--repo {repository}: {endpoint} cannot be reached: {_reason(error)}; {_advice(folder)}") from None


def _advice(folder: Path) -> str:
    return f"the bundle in {folder} is complete: `hf upload REPO {folder}` uploads it where that is possible"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    return single_line(str(error))[:200] or type(error).__name__
