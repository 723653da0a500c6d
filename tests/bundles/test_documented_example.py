"""The example of `harness.load_member` on the page about publishing runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from harness import streams
from harness.api.specs import SettingSpec
from harness.bundles.digests import digest_of
from harness.bundles.layout import json_text
from harness.bundles.member_config import MemberConfig
from harness.registry.catalogue import load_catalogue

PAGE = Path(__file__).resolve().parents[2] / "docs" / "publishing.md"


def test_example(tmp_path: Path) -> None:
    """It loads a network of an installed plugin, and normalizes images as its training did."""
    catalogue = load_catalogue()
    resnet = catalogue.get("architecture", "resnet20")
    architecture = catalogue.create("architecture", "resnet20", resnet.Options(width=0.5))  # type: ignore[call-arg]
    digits = catalogue.create("dataset", "digits")
    with streams.seeded(1):
        network = architecture.build(digits.shape, digits.num_classes).eval()
    folder = tmp_path / "0123"
    folder.mkdir()
    safetensors.torch.save_file(network.state_dict(), folder / "model.safetensors")
    config = MemberConfig(
        key="0" * 64,
        setting=SettingSpec(format=1, dataset=digits.identity, architecture=architecture.identity, recipe={}),
        shape=digits.shape,
        num_classes=digits.num_classes,
        normalization=digits.normalization,
        weights=digest_of(folder / "model.safetensors"),
    )
    (folder / "config.json").write_text(json_text(config.to_json()))
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("bundle/members/0123", str(folder)), names)
    images = digits.load(tmp_path)[1].images[:4]
    (mean,), (std,) = digits.normalization
    with torch.no_grad():
        expected = network((images.float() / 255 - mean) / std)
    torch.testing.assert_close(names["logits"](images), expected)
