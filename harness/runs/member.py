"""A member of an ensemble of a run: its place in the benchmark, and its weights as a state dict or as a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DamagedObject, UserError

if TYPE_CHECKING:
    from torch import nn

    from harness.api.data import StateDict
    from harness.registry.catalogue import Catalogue

FILTERS = ("dataset", "architecture", "method", "seed", "member")
"""The fields by which members can be chosen."""


@dataclass(frozen=True)
class Member:
    """One network of an ensemble.

    `dataset`, `architecture` and `method` are labels of the benchmark file; `member` is the index in the ensemble. `key` is the
    key of the weights; `object` and `part` are where the store keeps them. Members with equal keys are one network.
    """

    dataset: str
    architecture: str
    method: str
    seed: int
    member: int
    key: str
    object: str
    part: str
    store: Path

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], store: Path) -> Member:
        """Return the member that an entry of `run.json` describes; raise `UserError` if it describes none."""
        names = ("dataset", "architecture", "method", "key", "object", "part")
        try:
            texts = {name: str(entry[name]) for name in names}
            return cls(**texts, seed=int(entry["seed"]), member=int(entry["member"]), store=store)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"run.json: {entry!r:.80} describes no member; run the benchmark again to write it anew") from None

    @property
    def path(self) -> Path:
        """The safetensors file of the weights: a plain state dict."""
        from harness.store import Store

        return Store(self.store).path(self.object, self.part)

    def state_dict(self) -> StateDict:
        """Return parameters and buffers by name, on the CPU, checked against their digest.

        Raise `UserError` if they are not stored (yet), or damaged.
        """
        from harness.store import Store

        try:
            return Store(self.store).tensors(self.object, self.part)
        except DamagedObject as error:
            raise UserError(f"{self._label()}: its weights cannot be read: {error}; run the benchmark to train it") from None

    def module(self, data: str | Path | None = None, catalogue: Catalogue | None = None) -> nn.Module:
        """Return the network with its weights, in evaluation mode, on the CPU.

        Its inputs are normalized images, float32 (batch, channels, height, width), its outputs logits (batch, classes). `data`
        is the data root; it matters only for data sets and networks that depend on files there. `catalogue` holds the plugins,
        by default the installed ones. Raise `UserError` as
        `state_dict` does, and if the plugin of the network is not installed.
        """
        from harness.execution.plugin_calls import build_module, make_architecture, plugin_label
        from harness.networks.flat_network import FlatNetwork
        from harness.registry.catalogue import load_catalogue
        from harness.registry.recorded_identity import from_recorded_identity, present_identity
        from harness.runs.places import data_folder
        from harness.store import Store

        state = self.state_dict()
        setting = Store(self.store).meta(self.object)["spec"]["setting"]
        root = data_folder(data)
        known = catalogue or load_catalogue()
        identity = {name: value for name, value in setting["dataset"].items() if name != "fingerprint"}
        dataset = from_recorded_identity(known, "dataset", identity)
        architecture = make_architecture(known, present_identity(known, "architecture", setting["architecture"]), root)
        label = plugin_label(known, "architecture", architecture)
        module = build_module(architecture, label, dataset, 0)
        network = FlatNetwork(module, "cpu")
        network.load(state)
        return module.eval()

    def _label(self) -> str:
        return f"{self.dataset} × {self.architecture}, {self.method}, seed {self.seed}, member {self.member}"
