"""The file that holds a timm model's pretrained weights: where it lies, what is in it, how it comes there. Builds no model."""

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
"""Seconds that a server of pretrained weights may stay silent."""

SAFE_FORMS = {
    "pytorch_model.bin": "model.safetensors",
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
}
"""Files of a Hugging Face repository, and the safetensors files that timm loads instead; of others only the ending differs."""


@dataclass(frozen=True)
class WeightFile:
    """A file of pretrained weights as it was when it was read; `sha256` is the digest of its bytes, in hex.

    In a Hugging Face cache `path` is a link, whose ending says how to read the bytes.
    """

    path: Path
    sha256: str
    custom_load: bool
    """Whether the model's own `load_pretrained` reads it: a file in a foreign format."""

    def check_unchanged(self, name: str) -> None:
        """Raise `UserError` if the file holds other bytes by now."""
        found = read_digest(self.path, name)
        if found != self.sha256:
            raise UserError(
                f"{name}: {self.path} changed while it was in use: its sha256 was {self.sha256} and is {found}; run again"
            )


def find_weights(name: str, model: str) -> WeightFile:
    """Return the file of a model's pretrained weights, downloaded if it is not on this machine yet.

    A file that is there is taken as it is, without a request. Raise `UserError`, one line that begins with `name`, if there is
    none, or if it is cut short.
    """
    config = _pretrained_config(name, model)
    custom_load = bool(config.custom_load)
    if config.file:
        path = Path(config.file)
    elif config.hf_hub_id:
        path = _hub_file(name, config.hf_hub_id, config.hf_hub_filename or "pytorch_model.bin")
        custom_load = custom_load and bool(config.hf_hub_filename)  # without a name, the hub's file is a converted one
    else:
        path = _url_file(name, config.url)
    _check_whole(path, name)
    return WeightFile(path, read_digest(path, name), custom_load)


def read_digest(path: Path, name: str) -> str:
    """Return the sha256 of a file's bytes, in hex. A process reads a file once for each size and time of change."""
    with _readable(name, path):
        status = path.stat()
        return _digest(path.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)
def _digest(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def import_timm() -> Any:
    """Return timm; raise `UserError` if it cannot be imported.

    It imports huggingface_hub, which fails if one of its environment variables cannot be read as a number or an address.
    """
    try:
        import timm
    except Exception as error:
        names = ", ".join(sorted(name for name in os.environ if name.startswith("HF_"))) or "none"
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
    return [known.partition(".")[2] for known in import_timm().list_pretrained(f"{model.partition('.')[0]}.*")]


# Hugging Face


def _hub_file(name: str, repository: str, filename: str) -> Path:
    """Return the file in Hugging Face's cache, downloaded if need be; of two forms the safetensors one."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = repository.partition("@")
    forms: tuple[str, ...] = (filename,)
    if filename.endswith(".bin"):
        forms = (SAFE_FORMS.get(filename, f"{filename.removesuffix('.bin')}.safetensors"), filename)
    cache = constants.HF_HUB_CACHE
    for form in forms:
        with _readable(name, Path(cache)):
            cached = try_to_load_from_cache(repository, form, cache_dir=cache, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    advice = f"run `hf download {repository}` where it can be, and copy what that puts into {cache}"
    _check_hub(name, advice)
    for form in forms:
        try:
            return Path(hf_hub_download(repository, form, cache_dir=cache, revision=revision or None))
        except EntryNotFoundError as error:
            missing: Exception = error
        except Exception as error:  # of the network, the server, the disk: the library has a type for each
            raise UserError(f"{name}: its weights cannot be downloaded ({_reason(error)}); {advice}") from None
    raise UserError(f"{name}: its weights cannot be downloaded ({_reason(missing)}); {advice}")


def _check_hub(name: str, advice: str) -> None:
    """Refuse at once what huggingface_hub would try for a minute, or answer with errors of its own: no way to the hub."""
    from huggingface_hub import constants

    endpoint = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"{name}: its weights are not on this machine, and HF_HUB_OFFLINE forbids a download; {advice}")
    if not _is_url(endpoint):
        example = f"https://{endpoint}" if endpoint and ":" not in endpoint else "https://huggingface.co"
        raise UserError(f"{name}: HF_ENDPOINT is '{endpoint}', which is no URL; unset it, or set it to one, such as {example}")
    _check_reachable(name, endpoint, advice)


def _is_url(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


# Plain addresses


def _url_file(name: str, url: str) -> Path:
    """Return the file in torch.hub's cache, downloaded if need be."""
    import torch.hub

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urllib.parse.urlsplit(url).path).name
    with _readable(name, path):
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
    parts = urllib.parse.urlsplit(url)
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"  # without a password
    try:
        with urllib.request.urlopen(urllib.request.Request(server, method="HEAD"), timeout=TIMEOUT):
            pass
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: a proxy that is no address
        raise UserError(
            f"{name}: its weights are not on this machine and {server} cannot be reached "
            f"({_reason(getattr(error, 'reason', None) or error)}); {advice}"
        ) from None


def _check_whole(path: Path, name: str) -> None:
    """Refuse a file that is cut short or no file of weights, as far as its ends tell."""
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
def _readable(name: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{name}: its weights in {path} cannot be read ({error.strerror or error})") from None


def _reason(error: object) -> str:
    return _one_line(error) or type(error).__name__


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
