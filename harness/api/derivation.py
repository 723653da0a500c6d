"""The interface of derivations. Importing this module does not import torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.data import Split, StateDict
from harness.api.plugin import Plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class DerivationContext:
    """What a derivation may use besides the parents' weights.

    `network()` returns a new network of the parents' architecture on the CPU, always with the same initialization.
    `train` and `test` are the splits of the data set, and `split(name)` finds these and its further ones; do not change
    them in place. `normalize` maps uint8 images (batch, channels, height, width) to normalized float32 images on `device`.
    `recompute_statistics(state)` returns a copy of a state dict whose running statistics (BatchNorm's) are those of a sample
    of the training images at its weights, which averages and alignments need. `stream` is the key of the derivation's random
    stream: pass it to functions of `harness.streams`. `sources` are the files that the derivation declared as `sources`.
    """

    network: Callable[[], nn.Module]
    train: Split
    test: Split
    normalize: Callable[[Tensor], Tensor]
    device: torch.device
    stream: int
    split: Callable[[str], Split]
    recompute_statistics: Callable[[StateDict], StateDict]
    sources: tuple[Path, ...] = ()


class Derivation(Plugin):
    """Computes weights from other weights without training: an alignment, an average, a sample.

    class Average(Derivation):
        name = "average"

        def derive(self, parents, context):
            average = {}
            for name, tensor in parents[0].items():
                stacked = torch.stack([parent[name] for parent in parents])
                average[name] = stacked.double().mean(0).to(tensor.dtype)
            return [average], {"parents": len(parents)}

    `outputs` is the number of state dicts that `derive` returns. `sources` are absolute paths of files that it reads, besides
    its parents. They are in no key, so the options must hold what identifies the files, such as their digests.
    """

    outputs: int = 1
    sources: tuple[Path, ...] = ()

    @abstractmethod
    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return `outputs` state dicts, and facts about the computation.

        The state dicts have the names, shapes and dtypes of the parents'. They must not share memory with the
        parents, and the parents must not be changed. The facts must be serializable as JSON; the store keeps them
        in the metadata of the derived object.
        """
