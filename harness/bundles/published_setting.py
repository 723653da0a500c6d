"""The setting of a published member, whose plugins may have gained options since."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from harness.api.setting import Setting
from harness.api.specs import SettingSpec
from harness.api.task import key_of


@dataclass(frozen=True, eq=False)
class PublishedSetting(Setting):
    """A setting with the key that it had when it was published. `recorded` is its spec of that time, `spec` the present one."""

    recorded: SettingSpec

    @cached_property
    def key(self) -> str:
        """The sha256 of the recorded spec's canonical JSON: keys of measurements are compared with the published ones."""
        return key_of(self.recorded.to_json())
