"""`config.json` of a published member: what its network is, what it was trained on, and the digest of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.api.normalization import Normalization
from harness.api.plugin import full_name
from harness.api.specs import Identity, SettingSpec
from harness.bundles.digests import FileDigest
from harness.bundles.layout import CONFIG, FORMAT, MEMBERS, WEIGHTS, BundleError, check_format, read_json
from harness.store.layout import is_key

_MOST = 2**31
"""Upper bound of sizes of images and numbers of classes."""


@dataclass(frozen=True)
class MemberConfig:
    """What a published member is.

    `key` identifies the weights. `setting` is the data set with its fingerprint, the architecture and the recipe of the
    training. `shape` is (channels, height, width) of its images, which are normalized by `normalization`: mean and standard
    deviation per channel, of pixel values in [0, 1]. `weights` is the digest of `model.safetensors`.
    """

    key: str
    setting: SettingSpec
    shape: tuple[int, int, int]
    num_classes: int
    normalization: Normalization
    weights: FileDigest

    @property
    def architecture(self) -> str:
        """The architecture's name in messages, such as `timm/resnet18`."""
        return full_name(self.setting.architecture)

    @property
    def dataset(self) -> str:
        """The data set's name in messages."""
        return full_name(self.setting.dataset)

    def to_json(self) -> dict[str, Any]:
        """Return the content of `config.json`."""
        mean, std = self.normalization
        return {
            "format": FORMAT,
            "library": "basin-harness",
            "key": self.key,
            "architecture": self.setting.architecture,
            "dataset": self.setting.dataset,
            "recipe": self.setting.recipe,
            "task_format": self.setting.format,
            "shape": list(self.shape),
            "num_classes": self.num_classes,
            "normalization": {"mean": list(mean), "std": list(std)},
            "weights": {"file": WEIGHTS, **self.weights.to_json()},
        }


def read_config(folder: Path) -> MemberConfig:
    """Return the configuration in a member's folder. Raise `BundleError`, one line, if there is none that can be used."""
    path = folder / CONFIG
    if not path.is_file():
        raise BundleError(f"{folder}: no {CONFIG}; {_advice(folder)}")
    facts = read_json(path)
    check_format(path, facts)
    try:
        return _config(facts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path}: describes no member ({type(error).__name__}: {error}); was it changed?") from None


def _advice(folder: Path) -> str:
    """Return what to name instead of a folder that is no member's."""
    members = folder / MEMBERS
    if not members.is_dir():
        return f"name the folder of a published member, with {WEIGHTS} and {CONFIG}"
    names = sorted(path.name for path in members.iterdir())
    example = names[0] if names else "KEY"
    return f"it is a bundle with {len(names)} members; name one of them, such as {members / example}"


def _config(facts: Mapping[str, Any]) -> MemberConfig:
    """Return the configuration with these values. Raise `KeyError`, `TypeError`, `ValueError` or `AttributeError`."""
    key = facts["key"]
    if not is_key(key):
        raise ValueError(f"key {key!r:.80} is not 64 hexadecimal digits")
    channels, height, width = (_whole(size, "shape") for size in facts["shape"])
    weights = facts["weights"]
    setting = SettingSpec(
        format=_whole(facts["task_format"], "task_format"),
        dataset=_identity(facts["dataset"], "dataset"),
        architecture=_identity(facts["architecture"], "architecture"),
        recipe=dict(facts["recipe"]),
    )
    return MemberConfig(
        key=key,
        setting=setting,
        shape=(channels, height, width),
        num_classes=_whole(facts["num_classes"], "num_classes"),
        normalization=(_numbers(facts["normalization"]["mean"]), _numbers(facts["normalization"]["std"])),
        weights=FileDigest(int(weights["bytes"]), str(weights["sha256"])),
    )


def _identity(value: Any, name: str) -> Identity:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not isinstance(value.get("options"), dict):
        raise ValueError(f"{name} {value!r:.60} is no plugin with name, version and options")
    if type(value.get("version")) is not int or not isinstance(value.get("variant", ""), str | None):
        raise ValueError(f"{name} '{value['name']}' has no version")
    return value


def _whole(value: Any, name: str) -> int:
    if type(value) is not int or not 0 < value < _MOST:
        raise ValueError(f"{name} {value!r:.40} is no number from 1")
    return value


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
