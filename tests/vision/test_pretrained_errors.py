"""Pretrained weights that are missing, damaged or not downloadable: one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from harness import UserError
from vision.pretrained_weights import MODEL, TAGGED, located, location_error, put_weights

pytestmark = pytest.mark.usefixtures("hub")

NOT_A_URL = "which is no URL; unset it, or set it to one, such as"
DOWNLOAD_ADVICE = f"run `hf download timm/{TAGGED}` where it can be, and copy what that puts into "


def test_no_network() -> None:
    """The message says at once what is missing, why, and how to get it."""
    assert location_error().startswith(
        f"timm/{MODEL}: its weights are not on this machine and https://huggingface.co cannot be reached "
        f"(no network in tests); {DOWNLOAD_ADVICE}"
    )


def test_model_without_pretrained_weights() -> None:
    """The message says so."""
    model = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    assert location_error(model) == f"timm/{model}: timm has no pretrained weights for it; set `pretrained: false`"


def test_unknown_tag() -> None:
    """The message lists the known tags."""
    message = location_error(f"{MODEL}.nonsense")
    assert message == f"timm/{MODEL}.nonsense: Invalid pretrained tag (nonsense) for {MODEL}. known: r160_in1k"


@pytest.mark.parametrize(
    ("filename", "size", "reason"),
    [
        ("model.safetensors", -1000, "incomplete metadata, file not fully covered"),
        ("model.safetensors", 3, "header too small"),
        ("model.safetensors", 0, "header too small"),
        ("pytorch_model.bin", -1000, "its end is missing"),
        ("pytorch_model.bin", 0, "it is empty"),
    ],
)
def test_truncated_file(hub: Path, filename: str, size: int, reason: str) -> None:
    """The message names the file, the damage and the next step; a negative size is what is cut off."""
    path = put_weights(hub, 0, filename=filename)
    path.write_bytes(path.read_bytes()[:size])
    message = location_error()
    assert message.startswith(f"timm/{MODEL}: its weights in {path} are damaged (")
    assert message.endswith(f"{reason}); remove the file, and it is downloaded again")


def test_file_of_another_network(hub: Path) -> None:
    """The message names the file when the network is built."""
    path = put_weights(hub, 0)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=f"and weights from {path}: RuntimeError: Error"):
        located().build((3, 1, 1), 1000)


def test_broken_link(hub: Path) -> None:
    """It counts as a missing file."""
    put_weights(hub, 0, link=True).unlink()
    assert "its weights are not on this machine" in location_error()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("ENDPOINT", "hf-mirror.com", f"HF_ENDPOINT is 'hf-mirror.com', {NOT_A_URL} https://hf-mirror.com"),
        ("ENDPOINT", "", f"HF_ENDPOINT is '', {NOT_A_URL} https://huggingface.co"),
        ("ENDPOINT", "ftp://mirror", f"HF_ENDPOINT is 'ftp://mirror', {NOT_A_URL} https://huggingface.co"),
        (
            "ENDPOINT",
            "https://user:secret@mirror:8443",
            "its weights are not on this machine and https://mirror:8443 cannot be reached (no network in tests); "
            f"{DOWNLOAD_ADVICE}",
        ),
        (
            "HF_HUB_OFFLINE",
            True,
            f"its weights are not on this machine, and HF_HUB_OFFLINE forbids a download; {DOWNLOAD_ADVICE}",
        ),
    ],
)
def test_settings_of_the_hub(monkeypatch: pytest.MonkeyPatch, setting: str, value: object, message: str) -> None:
    """The message, one line, names the setting or the server, without a password."""
    monkeypatch.setattr(f"huggingface_hub.constants.{setting}", value)
    assert location_error().startswith(f"timm/{MODEL}: {message}")
