"""Find or download the file of a timm model's pretrained weights, and compute its digest. Builds no model."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness import UserError

TIMEOUT = 10.0
"""Seconds without an answer after which a server counts as unreachable."""

SAFETENSORS_NAMES = {
    "pytorch_model.bin": "model.safetensors",
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
}
"""Pickle files of Hugging Face repositories → the safetensors files that timm prefers. Others differ in the suffix only."""


@dataclass(frozen=True)
class WeightFile:
    """A file of pretrained weights; `sha256` is the digest, in hex, of the bytes that it had when it was found.

    In a Hugging Face cache `path` is a symbolic link whose suffix gives the file format.
    """

    path: Path
    sha256: str
    custom_load: bool
    """Whether the model's own `load_pretrained` reads the file, which is then in a format of the model's authors."""

    def check_unchanged(self, name: str) -> None:
        """Raise `UserError`, one line that begins with `name`, if the file has other bytes now."""
        found = read_digest(self.path, name)
        if found != self.sha256:
            raise UserError(
                f"{name}: {self.path} changed while it was in use: its sha256 was {self.sha256} and is {found}; run again"
            )


def find_weights(name: str, model: str) -> WeightFile:
    """Return the file of a model's pretrained weights; download it if it is not on this machine.

    An existing file is used without a request to the server. Raise `UserError`, one line that begins with `name`, if there are
    no such weights, if they cannot be downloaded, or if the file is truncated.
    """
    config = _pretrained_config(name, model)
    custom_load = bool(config.custom_load)
    if config.file:
        path = Path(config.file)
    elif config.hf_hub_id:
        path = _hub_file(name, config.hf_hub_id, config.hf_hub_filename or "pytorch_model.bin")
        custom_load = custom_load and bool(config.hf_hub_filename)  # without a name, the hub has a file converted for timm
    else:
        path = _url_file(name, config.url)
    _check_complete(path, name)
    return WeightFile(path, read_digest(path, name), custom_load)


def read_digest(path: Path, name: str) -> str:
    """Return the sha256 of a file's bytes, in hex; raise `UserError` if the file cannot be read.

    A process reads a file once per size and modification time.
    """
    with _os_errors_as_user_errors(name, path):
        status = path.stat()
        return _digest(path.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)
def _digest(path: Path, _size: int, _modified_ns: int) -> str:
    """Return the sha256 of a file's bytes, in hex; size and modification time are keys of the cache only."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def import_timm() -> Any:
    """Return timm; raise `UserError` if it cannot be imported.

    timm imports huggingface_hub, which raises if one of its environment variables is not a valid number or URL.
    """
    try:
        import timm
    except Exception as error:
        variables = sorted(name for name in os.environ if name.startswith("HF_"))
        names = ", ".join(variables) or "none"
        raise UserError(
            f"timm cannot be imported: {type(error).__name__}: {_one_line(error)}; check the installation and the environment "
            f"variables of Hugging Face (set: {names})"
        ) from None
    return timm


def _pretrained_config(name: str, model: str) -> Any:
    """Return timm's configuration of a model's pretrained weights."""
    timm = import_timm()
    try:
        config = timm.get_pretrained_cfg(model)
    except RuntimeError as error:  # a tag that timm does not know
        raise UserError(f"{name}: {_one_line(error)} known: {', '.join(_tags(model))}") from None
    if config is None or not config.has_weights:
        raise UserError(f"{name}: timm has no pretrained weights for it; set `pretrained: false`")
    return config


def _tags(model: str) -> list[str]:
    """Return the tags of all pretrained weights of a model."""
    base = model.partition(".")[0]
    return [known.partition(".")[2] for known in import_timm().list_pretrained(f"{base}.*")]


# Hugging Face


def _hub_file(name: str, repository: str, filename: str) -> Path:
    """Return the file in Hugging Face's cache; download it if it is missing. A safetensors file is preferred."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = repository.partition("@")
    candidates = _candidates(filename)
    cache = constants.HF_HUB_CACHE
    for candidate in candidates:
        with _os_errors_as_user_errors(name, Path(cache)):
            cached = try_to_load_from_cache(repository, candidate, cache_dir=cache, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    advice = f"run `hf download {repository}` where it can be, and copy what that puts into {cache}"
    _check_hub(name, advice)
    for candidate in candidates:
        try:
            return Path(hf_hub_download(repository, candidate, cache_dir=cache, revision=revision or None))
        except EntryNotFoundError as error:
            missing: Exception = error
        except Exception as error:  # network, server and disk errors have different types in huggingface_hub
            raise UserError(f"{name}: its weights cannot be downloaded ({_reason(error)}); {advice}") from None
    raise UserError(f"{name}: its weights cannot be downloaded ({_reason(missing)}); {advice}")


def _candidates(filename: str) -> tuple[str, ...]:
    """Return the file names to try in a repository, in order."""
    if not filename.endswith(".bin"):
        return (filename,)
    default = f"{filename.removesuffix('.bin')}.safetensors"
    return (SAFETENSORS_NAMES.get(filename, default), filename)


def _check_hub(name: str, advice: str) -> None:
    """Raise `UserError` if the hub cannot be reached.

    huggingface_hub itself would retry for a minute, and report a wrong endpoint by an exception of another library.
    """
    from huggingface_hub import constants

    endpoint = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"{name}: its weights are not on this machine, and HF_HUB_OFFLINE forbids a download; {advice}")
    if not _is_url(endpoint):
        example = "https://huggingface.co"
        if endpoint and ":" not in endpoint:
            example = f"https://{endpoint}"
        raise UserError(f"{name}: HF_ENDPOINT is '{endpoint}', which is no URL; unset it, or set it to one, such as {example}")
    _check_reachable(name, endpoint, advice)


def _is_url(text: str) -> bool:
    """Return whether text is an HTTP or HTTPS URL with a host and, if it has a port, a valid one."""
    try:
        parts = urllib.parse.urlsplit(text)
        valid_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and valid_port


# Plain URLs


def _url_file(name: str, url: str) -> Path:
    """Return the file in torch.hub's cache; download it if it is missing."""
    import torch.hub

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urllib.parse.urlsplit(url).path).name
    with _os_errors_as_user_errors(name, path):
        if path.is_file():
            return path
    advice = f"put {url} into {folder}"
    _check_reachable(name, url, advice)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise UserError(f"{name}: its weights cannot be downloaded ({_reason(error)}); {advice}") from None
    return path


# Both


def _check_reachable(name: str, url: str, advice: str) -> None:
    """Raise `UserError` if the server of a URL gives no answer; an answer with an error status is one."""
    parts = urllib.parse.urlsplit(url)
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"  # without a password
    try:
        with urllib.request.urlopen(urllib.request.Request(server, method="HEAD"), timeout=TIMEOUT):
            pass
    except urllib.error.HTTPError:
        pass  # the server answers
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: the proxy is no URL
        reason = _reason(getattr(error, "reason", None) or error)
        raise UserError(
            f"{name}: its weights are not on this machine and {server} cannot be reached ({reason}); {advice}"
        ) from None


def _check_complete(path: Path, name: str) -> None:
    """Raise `UserError` if a file is truncated: its safetensors header, or the directory of its zip archive, does not fit."""
    import safetensors

    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, "pt"):
                return
        with path.open("rb") as file:
            start = file.read(2)
    except (OSError, safetensors.SafetensorError) as error:
        raise _damaged(path, name, _reason(error)) from None
    if not start:
        raise _damaged(path, name, "it is empty")
    if start == b"PK" and not zipfile.is_zipfile(path):
        raise _damaged(path, name, "its end is missing")


def _damaged(path: Path, name: str, reason: str) -> UserError:
    return UserError(f"{name}: its weights in {path} are damaged ({reason}); remove the file, and it is downloaded again")


@contextmanager
def _os_errors_as_user_errors(name: str, path: Path) -> Iterator[None]:
    """Raise `UserError` with the path and the reason for an `OSError` within the block."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{name}: its weights in {path} cannot be read ({error.strerror or error})") from None


def _reason(error: object) -> str:
    return _one_line(error) or type(error).__name__


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
